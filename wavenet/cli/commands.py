"""The commands: options, recipe and extra of each, and the groups of their keys."""

from dataclasses import dataclass
from typing import Any

from wavenet.benchmarks.options import BenchmarkCommand, TrainBenchmarkCommand
from wavenet.config import AudioConfig, LocalConfig, WaveNetConfig
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import EvaluateCommand, EvaluationOptions
from wavenet.generation.options import GenerateCommand
from wavenet.training.options import OptimOptions, TrainCommand, TrainerOptions
from wavenet.utils.fields import Options, default_config, option
from wavenet.utils.sharding import Shard


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
class InspectCommand(Options):
    """`wavenet-inspect`: table of a model's layers, and a chart."""

    audio: AudioConfig = option(help="Sample rate, and features that condition the model")
    model: WaveNetConfig = option(help="Shape of the weights")
    checkpoint: str | None = option(None, "Model directory; null to inspect the group model")
    output: str | None = option(None, "PNG chart of the dilations; null for none")
    debug: bool = option(False, "Show tracebacks of errors")


@dataclass(frozen=True)
class CommandSpec:
    """What a command is made of.

    Attributes:
        options: Dataclass of its config.
        recipe: Its file in recipes/ and the function there, as `train:train`.
        extra: The extra of the package that it needs.
        sweeps: Whether `-m` makes sense for it.
    """

    options: type[Any]
    recipe: str
    extra: str = "train"
    sweeps: bool = False


COMMANDS = {
    "prepare": CommandSpec(PrepareCommand, "prepare:prepare"),
    "train": CommandSpec(TrainCommand, "train:train", sweeps=True),
    "generate": CommandSpec(GenerateCommand, "generate:generate", "generate"),
    "evaluate": CommandSpec(EvaluateCommand, "evaluate:evaluate"),
    "benchmark": CommandSpec(BenchmarkCommand, "benchmark:benchmark", "generate"),
    "benchmark_train": CommandSpec(TrainBenchmarkCommand, "benchmark_train:benchmark_train"),
    "inspect": CommandSpec(InspectCommand, "inspect_model:inspect", "generate"),
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
