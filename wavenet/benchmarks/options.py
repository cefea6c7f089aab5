"""Options of `wavenet-benchmark` and `wavenet-benchmark-train`."""

import re
from dataclasses import dataclass
from typing import Literal

from wavenet.generation.options import WeightDtype
from wavenet.utils.dataclass_io import check
from wavenet.utils.fields import Options, option

ModelSize = Literal["small", "medium", "large"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkCommand(Options):
    """`wavenet-benchmark`: speed of the samplers on this machine."""

    checkpoint: str | None = option(
        None, "Model directory; null for untrained models of the sizes below at 16 kHz"
    )
    sizes: tuple[ModelSize, ...] = option(
        ("small", "medium", "large"), "Models: 0.2, 1.2 and 3.2 million weights", min_length=1
    )
    conditioning: tuple[Literal["none", "mel", "speaker"], ...] = option(
        ("none",), "Conditioning of models of these sizes", min_length=1
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
        Literal["baseline", "baseline_compiled", "fused", "fused_compiled", "fused_checkpointed"],
        ...,
    ] = option(
        ("baseline", "fused"),
        "PyTorch's layers or the fused stack, also with torch.compile or activation checkpointing",
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
        for shape in self.batch_shapes:
            good = re.fullmatch("[1-9][0-9]{0,5}x[1-9][0-9]{0,7}", shape) is not None
            check(good, "batch_shapes", "SEGMENTSxSAMPLES, such as 1x16000", shape)
        _check_chart(self.output)


def _check_chart(output: str | None) -> None:
    good = output is None or output.lower().endswith(".png")
    check(good, "output", "a .png file", output)
