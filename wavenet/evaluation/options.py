"""Options of an evaluation: of `wavenet-evaluate`, and of the report of a finished run."""

from dataclasses import dataclass
from pathlib import Path

from wavenet.data.options import DataOptions
from wavenet.utils.dataclass_io import check
from wavenet.utils.errors import ConfigError
from wavenet.utils.fields import Options, option
from wavenet.utils.sharding import Shard

MAX_SECONDS = 1e9
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Options):
    """Which measures are taken, and which recordings are generated."""

    sample_seconds: float = option(
        3.0, "Length of each generated recording; 0 for no report", ge=0, le=MAX_SECONDS
    )
    prompt_seconds: float = option(
        1.0, "Held-out audio before the continued recording", ge=0, le=MAX_SECONDS
    )
    num_samples: int = option(1, "Unconditional recordings, per speaker", ge=0)
    num_resynthesis: int = option(
        10, "Held-out clips, the longest, for resynthesis from their features", ge=0
    )
    resynthesis_seconds: float | None = option(
        12.0, "Longest part of those clips; null for all", gt=0, le=MAX_SECONDS
    )
    temperature: float = option(1.0, "Sampling temperature", ge=0)
    eval_seconds: float | None = option(
        None, "Held-out audio for bits per sample; null for all", gt=0, le=MAX_SECONDS
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(Options):
    """`wavenet-evaluate`: measures of a model on held-out clips, and a page to listen to."""

    checkpoint: str = option(help="Model directory, such as runs/demo/model")
    data: DataOptions = option(help="Clips, prepared or to prepare")
    evaluation: EvaluationOptions = option(help="Measures and generated recordings")
    output: str | None = option("evaluation.html", "HTML page; null for none")
    seed: int = option(0, "Seed of the generated recordings", ge=0, le=MAX_SEED)
    shard: str | None = option(
        None, "i/n evaluates every n-th clip from the i-th on, into a file next to output"
    )
    merge_shards: int | None = option(None, "Merge the results of this many shards", ge=1)
    json: bool = option(False, "Print JSON instead of tables; also --json")
    overwrite: bool = option(False, "Replace an existing page, or existing results of a shard")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        html = self.output is None or Path(self.output).suffix.lower() == ".html"
        check(html, "output", "a .html file, or null", self.output)
        if self.shard is not None:
            Shard.from_text(self.shard)
            if self.merge_shards is not None:
                raise ConfigError("shard evaluates, merge_shards merges: set one of the two")

    @property
    def page(self) -> Path | None:
        """The listening page; `None` if this command writes none."""
        listen = self.evaluation.sample_seconds and self.shard is None
        return Path(self.output) if self.output is not None and listen else None
