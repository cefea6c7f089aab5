"""What `prepare` may do to a recording; by default nothing but cutting the data set in three."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from wavenet.data.audio import MOST_HZ
from wavenet.utils.dataclass_io import check, narrow
from wavenet.utils.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How recordings become clips.

    Attributes:
        sample_rate: Rate of every clip, in Hz.
        corpus: How the recordings lie: `folder`, anyhow, or a name of `wavenet.data.corpora`, where
            speakers and scores are known.
        resample: Convert recordings of another rate (soxr, high quality).
        mixdown: Replace several channels by their mean.
        clip: Limit samples past 1.0 to 1.0.
        zero_nan: Replace NaN and infinite samples by 0.
        keep_truncated: Take what there is of a file that ends before its header says.
        keep_silent: Accept recordings whose standard deviation is under 1e-4.
        skip_bad: Leave out files that no other option repairs, instead of stopping.
        trim_db: Cut silence at both ends, this far under the loudest part; `None` leaves it.
        split_db: Cut recordings into pieces at silence, this far under the loudest part.
        min_seconds: Shortest recording, and shortest piece, that is taken.
        valid_fraction: Share of the recordings that validates.
        test_fraction: Share of the recordings that tests.
        speaker_folders: Take the first folder below the root as the speaker's name.
        num_workers: Recordings at a time; `None` for one a core. It does not change the result.
    """

    sample_rate: int
    corpus: str = "folder"
    resample: bool = False
    mono: bool = False
    clip: bool = False
    nan_to_num: bool = False
    allow_truncated: bool = False
    allow_silent: bool = False
    skip_invalid: bool = False
    trim_top_db: float | None = None
    split_top_db: float | None = None
    min_seconds: float = 0.1
    valid_fraction: float = 0.05
    test_fraction: float = 0.05
    speaker_from_folder: bool = False
    num_workers: int | None = None

    def __post_init__(self) -> None:
        check(1 <= self.sample_rate <= MOST_HZ, "sample_rate", f"1 to {MOST_HZ}", self.sample_rate)
        for name in ("trim_top_db", "split_top_db"):
            value = getattr(self, name)
            check(value is None or 0 < value < math.inf, name, "positive or nothing", value)
        check(0 <= self.min_seconds < math.inf, "min_seconds", "0 or more", self.min_seconds)
        for name in ("valid_fraction", "test_fraction"):
            check(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))
        held = self.valid_fraction + self.test_fraction
        check(held < 1, "valid_fraction + test_fraction", "under 1", held)
        check(
            self.num_workers is None or self.num_workers >= 1,
            "num_workers",
            "1 or more, or nothing",
            self.num_workers,
        )


@dataclass(frozen=True, kw_only=True)
class DataOptions(PrepareOptions):
    """Where audio comes from, how it is prepared, and where the prepared clips go.

    Attributes:
        root: Folder of recordings; absent if `processed_dir` is there already.
        download: Fetch the corpus into `root` where that does not exist.
        processed_dir: Folder of prepared clips; absent for
            `prepared/NAME-RATE-DIGEST`, of the recordings and the options.
        use_speakers: Condition the model on who speaks, by the names in the manifest.
        normalise: Bring each mel band to mean 0 and deviation 1 over the training clips; a
            convention that clips keeps its own.
    """

    root: str | None = None
    download: bool = False
    processed_dir: str | None = None
    use_speakers: bool = False
    normalize_mel: bool = True

    def at(self, folder: Path) -> "DataOptions":
        """Return the same with the prepared folder, and with absolute paths."""
        root = None if self.root is None else str(self.source.resolve())
        return replace(self, root=root, processed_dir=str(folder.resolve()))

    @property
    def preparation(self) -> PrepareOptions:
        """What decides the clips, wherever they come from and go."""
        return narrow(PrepareOptions, self)

    @property
    def source(self) -> Path:
        """The folder of recordings."""
        if self.root is None:
            raise ConfigError(
                "missing required key data.root: add data.root=FOLDER, your recordings"
            )
        return Path(self.root)

    @property
    def folder(self) -> Path:
        """The folder of prepared clips, if it is chosen; else `prepare_data` returns it."""
        if self.processed_dir is None:
            raise ConfigError("data.processed_dir is missing: add data.processed_dir=FOLDER")
        return Path(self.processed_dir)
