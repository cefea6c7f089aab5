"""What a finished run, or `wavenet-evaluate`, leaves to read and to hear."""

from dataclasses import dataclass

from wavenet.data.options import DataOptions
from wavenet.utils.dataclass_io import check
from wavenet.utils.sharding import Shard

MOST_SECONDS = 1e9
LENGTH = f"positive and at most {MOST_SECONDS:g}, or null"


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What is measured, and what there is to hear.

    Attributes:
        sample_seconds: Length of each generated recording; 0 for bits per sample alone.
        prompt_seconds: Held-out audio that the continued recording starts from.
        num_samples: Unconditional recordings, of each voice.
        num_resynthesis: Held-out clips, the longest ones, that a model conditioned by frames speaks again.
        copy_seconds: Length at which they are cut; absent for all of them.
        temperature: Of the draws.
        evaluate_seconds: Held-out audio that the bits per sample cover; absent for all.
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
    """`wavenet-evaluate`: a model and held-out clips to measures, and a page to listen to.

    Attributes:
        checkpoint: Directory of the model.
        data: Clips, prepared or to prepare.
        evaluation: What is measured, and what there is to hear.
        output: HTML file to write; absent for none.
        seed: Of the draws.
        shard: Do every `n`-th clip and copy from the `i`-th on, said as `i/n`, and write what they
            come to beside `output`; `all/n` adds up what `n` such jobs wrote.
        json: Print JSON.
        overwrite: Replace an existing page, or an existing shard's measures.
    """

    checkpoint: str
    data: DataOptions
    evaluation: EvaluationOptions
    output: str | None = "evaluation.html"
    seed: int = 0
    shard: str | None = None
    json: bool = False
    overwrite: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        if self.shard is not None and self.shards is None:
            Shard.from_text(self.shard)

    @property
    def shards(self) -> int | None:
        """How many shards are to be added up; absent where that is not asked for."""
        whose, _, count = (self.shard or "").partition("/")
        return Shard.from_text(f"1/{count}").count if whose == "all" else None

    @property
    def part(self) -> Shard | None:
        """The shard that is to be measured; absent for all of it."""
        wanted = self.shard is not None and self.shards is None
        return Shard.from_text(self.shard or "") if wanted else None
