"""What each command takes: one dataclass a verb."""

from dataclasses import dataclass

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.options import DataOptions
from wavenet.training.options import RunConfig
from wavenet.utils.dataclass_io import narrow
from wavenet.utils.sharding import Shard


@dataclass(frozen=True, kw_only=True)
class PrepareCommand:
    """`wavenet-prepare`: recordings to clips.

    Attributes:
        data: The recordings, and what is done to them.
        shard: Do the share `i/n` of the recordings only, beside other jobs; absent for what is
            left of all, which then takes its place.
    """

    audio: AudioConfig
    data: DataOptions
    shard: str | None = None
    debug: bool = False

    def __post_init__(self) -> None:
        if self.shard is not None:
            Shard.from_text(self.shard)


@dataclass(frozen=True, kw_only=True)
class TrainCommand(RunConfig):
    """`wavenet-train`: clips to a model.

    Attributes:
        run_dir: Folder of a new run; with `-m`, of all its runs.
        resume: Folder of a run to go on with.
        debug: Show where in the code an error arose.
    """

    run_dir: str | None = None
    resume: str | None = None
    debug: bool = False

    @property
    def run(self) -> RunConfig:
        """The run itself, without how it was asked for."""
        return narrow(RunConfig, self)


@dataclass(frozen=True, kw_only=True)
class InspectCommand:
    """`wavenet-inspect`: the layers of a model, as a table and a picture.

    Attributes:
        checkpoint: Directory of a model; absent to look at `model`.
        output: PNG of the dilation tree; absent for none.
    """

    audio: AudioConfig
    model: WaveNetConfig
    checkpoint: str | None = None
    output: str | None = None
    debug: bool = False
