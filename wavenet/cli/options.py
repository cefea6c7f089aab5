"""What each command takes: one dataclass a verb."""

import re
from dataclasses import dataclass
from typing import Literal

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import ReportOptions
from wavenet.plain import check, narrow
from wavenet.shard import Shard
from wavenet.training.options import RunConfig

Precision = Literal["float32", "bfloat16", "int8"]  # a sampler's; see wavenet.sampling


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
class GenerateCommand:
    """`wavenet-generate`: a model to recordings.

    Attributes:
        checkpoint: Directory of the model.
        output: WAV file to write; for a batch, item `i` gets `-i` before the suffix. A folder where
            the input or the prompt is one: each file's recording has its name, below `output`.
        input: What a conditioned model speaks from: a recording or a mel spectrogram
            (`.safetensors`, `.npy`), or a score (`.csv`), as its features ask for; or a folder of
            them.
        mel_convention: How a `.npy` input was made; a name, or `model`.
        speaker: Name of the voice; absent for none in particular.
        guidance: How far to go towards the speaker; 1 as learnt, more for beyond.
        seconds: Length of each recording, without its prompt; absent for as long as the input, or
            3 seconds where there is none.
        prompt: Recording to go on from, or a folder of them.
        batch: Recordings; of a folder, inputs at once, which changes no bit.
        shard: Of a folder, do every `n`-th input from the `i`-th on, said as `i/n`.
        seed: Item `i` is drawn with `seed + i`, a file of a folder with a seed that follows from
            this one and the file's name.
        temperature: Below 1 the likely becomes likelier; 0 takes the most likely.
        top_k: Draw from this many classes only.
        top_p: Draw from the classes that together have this probability.
        backend: Sampler.
        threads: Cores to use; absent for one a recording, as far as there are so many. They
            change no bit.
        precision: Of the weights.
        overwrite: Replace existing files; of a folder, those that exist are left otherwise.
    """

    checkpoint: str
    output: str = "generated.wav"
    input: str | None = None
    mel_convention: str | None = None
    speaker: str | None = None
    guidance: float = 1.0
    seconds: float | None = None
    prompt: str | None = None
    batch: int = 1
    shard: str | None = None
    seed: int = 0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    backend: str = "auto"
    threads: int | None = None
    precision: Precision = "float32"
    overwrite: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        good = self.seconds is None or self.seconds > 0
        check(good, "seconds", "positive", self.seconds)
        check(self.batch >= 1, "batch", "1 or more", self.batch)
        if self.shard is not None:
            Shard.from_text(self.shard)
        check(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        check(self.threads is None or self.threads >= 1, "threads", "1 or more", self.threads)
        check(self.temperature >= 0, "temperature", "0 or more", self.temperature)
        check(self.top_k is None or self.top_k >= 1, "top_k", "1 or more", self.top_k)
        check(self.top_p is None or 0 < self.top_p <= 1, "top_p", "in (0, 1]", self.top_p)


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """`wavenet-evaluate`: a model and held-out clips to measures, and a page to listen to.

    Attributes:
        checkpoint: Directory of the model.
        data: Clips, prepared or to prepare.
        report: What is measured, and what there is to hear.
        output: HTML file to write; absent for none.
        seed: Of the draws.
        shard: Do every `n`-th clip and copy from the `i`-th on, said as `i/n`, and write what they
            come to beside `output`; `all/n` adds up what `n` such jobs wrote.
        json: Print JSON.
        overwrite: Replace an existing page, or an existing shard's measures.
    """

    checkpoint: str
    data: DataOptions
    report: ReportOptions
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


@dataclass(frozen=True, kw_only=True)
class BenchmarkCommand:
    """`wavenet-benchmark`: samplers side by side.

    Attributes:
        checkpoint: Directory of a model; absent for models of `sizes`.
        sizes: Of `S`, `M`, `L`.
        told: What models of `sizes` are told, side by side: `nothing`, `mel`, `speaker`.
        batches: Streams at once, each in turn.
        threads: Cores, each in turn.
        precisions: Of the weights, each in turn.
        rounds: Measurements of each case.
        seconds: Of one measurement.
        bits_seconds: Held-out audio to measure bits per sample on; 0 for none.
        startup: Time new processes too.
        output: PNG of the bar chart; for several models the size comes before the suffix.
        json: Print JSON.
    """

    checkpoint: str | None = None
    sizes: tuple[Literal["S", "M", "L"], ...] = ("S", "M", "L")
    told: tuple[Literal["nothing", "mel", "speaker"], ...] = ("nothing",)
    batches: tuple[int, ...] = (1, 32)
    threads: tuple[int, ...] = (1, 2)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
    rounds: int = 5
    seconds: float = 0.4
    bits_seconds: float = 20.0
    startup: bool = True
    output: str | None = "benchmark.png"
    json: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        for name in ("sizes", "told", "batches", "threads", "precisions"):
            check(bool(getattr(self, name)), name, "one entry at least", getattr(self, name))
        check(min(self.batches) >= 1, "batches", "1 or more each", self.batches)
        check(min(self.threads) >= 1, "threads", "1 or more each", self.threads)
        check(self.rounds >= 1, "rounds", "1 or more", self.rounds)
        check(0 < self.seconds < 1000, "seconds", "positive, under 1000", self.seconds)
        check(self.bits_seconds >= 0, "bits_seconds", "0 or more", self.bits_seconds)
        good = self.output is None or self.output.lower().endswith(".png")
        check(good, "output", "a .png file", self.output)


@dataclass(frozen=True, kw_only=True)
class TrainBenchmarkCommand:
    """`wavenet-benchmark train`: ways to train side by side.

    Attributes:
        sizes: Of `S`, `M`, `L`.
        crops: Crops of an update and samples of each, as `1x16000`, each in turn.
        precisions: Of matrix products, each in turn.
        ways: `textbook` is PyTorch's layers as they come; `wavenet` what `wavenet-train` does;
            `compiled` with torch.compile, `saving` with activation checkpointing.
        device: `auto` takes a GPU where there is one.
        rounds: Measurements of each case.
        seconds: Of one measurement, at least one update.
        output: PNG of the bar chart; for several sizes the size comes before the suffix.
        json: Print JSON.
    """

    sizes: tuple[Literal["S", "M", "L"], ...] = ("S", "M", "L")
    crops: tuple[str, ...] = ("1x16000",)
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
    ways: tuple[
        Literal["textbook", "textbook_compiled", "wavenet", "wavenet_compiled", "wavenet_saving"],
        ...,
    ] = ("textbook", "wavenet")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    rounds: int = 7
    seconds: float = 2.0
    output: str | None = "benchmark-train.png"
    json: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        for name in ("sizes", "crops", "precisions", "ways"):
            check(bool(getattr(self, name)), name, "one entry at least", getattr(self, name))
        for crops in self.crops:
            good = re.fullmatch("[1-9][0-9]{0,5}x[1-9][0-9]{0,7}", crops) is not None
            check(good, "crops", "such as 1x16000: crops of an update, samples of each", crops)
        check(self.rounds >= 1, "rounds", "1 or more", self.rounds)
        check(0 < self.seconds < 1000, "seconds", "positive, under 1000", self.seconds)
        good = self.output is None or self.output.lower().endswith(".png")
        check(good, "output", "a .png file", self.output)


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
