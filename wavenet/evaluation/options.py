"""Options of an evaluation: of `wavenet-evaluate`, and of the report of a finished run."""

from dataclasses import dataclass
from pathlib import Path

from wavenet.data.options import DataOptions
from wavenet.utils.dataclass_io import check
from wavenet.utils.errors import ConfigError
from wavenet.utils.sharding import Shard

MOST_SECONDS = 1e9
LENGTH = f"positive and at most {MOST_SECONDS:g}, or null"


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What to measure and to generate.

    Attributes:
        sample_seconds: Length of each generated recording; 0 for bits per sample only.
        prompt_seconds: Held-out audio that serves as the prompt of the continued recording.
        num_samples: Unconditional recordings per speaker.
        num_resynthesis: Held-out clips, longest first, that a model with local conditioning
            generates again from their features.
        resynthesis_seconds: Length to which these are cut; absent for their full length.
        temperature: Of the samples.
        eval_seconds: Held-out audio for the bits per sample; absent for all.
    """

    sample_seconds: float = 3.0
    prompt_seconds: float = 1.0
    num_samples: int = 1
    num_resynthesis: int = 10
    resynthesis_seconds: float | None = 12.0
    temperature: float = 1.0
    eval_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in (
            "sample_seconds",
            "prompt_seconds",
            "num_samples",
            "num_resynthesis",
            "temperature",
        ):
            check(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        for name in ("resynthesis_seconds", "eval_seconds"):
            seconds = getattr(self, name)
            check(seconds is None or 0 < seconds <= MOST_SECONDS, name, LENGTH, seconds)
        for name in ("sample_seconds", "prompt_seconds"):
            length = getattr(self, name)
            check(length <= MOST_SECONDS, name, f"at most {MOST_SECONDS:g}", length)


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """`wavenet-evaluate`: a model and held-out clips to metrics and a listening page.

    Attributes:
        checkpoint: Model directory.
        data: Recordings; absent for the held-out clips of the model's run.
        evaluation: What to measure and to generate.
        output: HTML file to write; absent for none.
        seed: Of the noise.
        shard: Evaluate every `n`-th clip from the `i`-th on, as `i/n`, and write the results next
            to `output`.
        merge_shards: Merge the results of this many shards; absent for no merge.
        json: Print JSON.
        overwrite: Replace an existing page, or an existing shard's results.
        debug: Show the traceback of an error.
    """

    checkpoint: str
    data: DataOptions
    evaluation: EvaluationOptions
    output: str | None = "evaluation.html"
    seed: int = 0
    shard: str | None = None
    merge_shards: int | None = None
    json: bool = False
    overwrite: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        html = self.output is None or Path(self.output).suffix.lower() == ".html"
        check(html, "output", "a .html file, or null", self.output)
        if self.shard is not None:
            Shard.from_text(self.shard)
        if self.merge_shards is not None:
            check(self.merge_shards >= 1, "merge_shards", "1 or more", self.merge_shards)
            if self.shard is not None:
                raise ConfigError("shard evaluates, merge_shards merges: set one of the two")

    @property
    def page(self) -> Path | None:
        """The listening page; `None` if this command writes none."""
        listen = self.evaluation.sample_seconds and self.shard is None
        return Path(self.output) if self.output is not None and listen else None
