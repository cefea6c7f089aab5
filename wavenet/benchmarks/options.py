"""What the benchmarks take."""

import re
from dataclasses import dataclass
from typing import Literal

from wavenet.utils.dataclass_io import check

Precision = Literal["float32", "bfloat16", "int8"]  # a sampler's; see wavenet.sampling


@dataclass(frozen=True, kw_only=True)
class BenchmarkCommand:
    """`wavenet-benchmark`: samplers side by side.

    Attributes:
        checkpoint: Directory of a model; absent for models of `sizes`.
        sizes: Of `small`, `medium`, `large`.
        conditioning: What models of `sizes` are told, side by side: `none`, `mel`, `speaker`.
        batch_sizes: Streams at once, each in turn.
        num_threads: Cores, each in turn.
        weight_dtypes: Of the weights, each in turn.
        repeats: Measurements of each case.
        seconds: Of one measurement.
        bits_seconds: Held-out audio to measure bits per sample on; 0 for none.
        measure_startup: Time new processes too.
        output: PNG of the bar chart; for several models the size comes before the suffix.
        json: Print JSON.
    """

    checkpoint: str | None = None
    sizes: tuple[Literal["small", "medium", "large"], ...] = ("small", "medium", "large")
    conditioning: tuple[Literal["none", "mel", "speaker"], ...] = ("none",)
    batch_sizes: tuple[int, ...] = (1, 32)
    num_threads: tuple[int, ...] = (1, 2)
    weight_dtypes: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
    repeats: int = 5
    seconds: float = 0.4
    bits_seconds: float = 20.0
    measure_startup: bool = True
    output: str | None = "benchmark.png"
    json: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        for name in ("sizes", "conditioning", "batch_sizes", "num_threads", "weight_dtypes"):
            check(bool(getattr(self, name)), name, "one entry at least", getattr(self, name))
        check(min(self.batch_sizes) >= 1, "batch_sizes", "1 or more each", self.batch_sizes)
        check(min(self.num_threads) >= 1, "num_threads", "1 or more each", self.num_threads)
        check(self.repeats >= 1, "repeats", "1 or more", self.repeats)
        check(0 < self.seconds < 1000, "seconds", "positive, under 1000", self.seconds)
        check(self.bits_seconds >= 0, "bits_seconds", "0 or more", self.bits_seconds)
        good = self.output is None or self.output.lower().endswith(".png")
        check(good, "output", "a .png file", self.output)


@dataclass(frozen=True, kw_only=True)
class TrainBenchmarkCommand:
    """`wavenet-benchmark train`: ways to train side by side.

    Attributes:
        sizes: Of `small`, `medium`, `large`.
        batch_shapes: Crops of an update and samples of each, as `1x16000`, each in turn.
        precisions: Of matrix products, each in turn.
        implementations: `baseline` is PyTorch's layers, `fused` what `wavenet-train` does;
            `compiled` with torch.compile, `checkpointed` with activation checkpointing.
        device: `auto` takes a GPU where there is one.
        repeats: Measurements of each case.
        seconds: Of one measurement, at least one update.
        output: PNG of the bar chart; for several sizes the size comes before the suffix.
        json: Print JSON.
    """

    sizes: tuple[Literal["small", "medium", "large"], ...] = ("small", "medium", "large")
    batch_shapes: tuple[str, ...] = ("1x16000",)
    precisions: tuple[Literal["32-true", "bf16-mixed"], ...] = ("32-true", "bf16-mixed")
    implementations: tuple[
        Literal["baseline", "baseline_compiled", "fused", "fused_compiled", "fused_checkpointed"],
        ...,
    ] = ("baseline", "fused")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    repeats: int = 7
    seconds: float = 2.0
    output: str | None = "benchmark-train.png"
    json: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        for name in ("sizes", "batch_shapes", "precisions", "implementations"):
            check(bool(getattr(self, name)), name, "one entry at least", getattr(self, name))
        for crops in self.batch_shapes:
            good = re.fullmatch("[1-9][0-9]{0,5}x[1-9][0-9]{0,7}", crops) is not None
            check(
                good, "batch_shapes", "such as 1x16000: crops of an update, samples of each", crops
            )
        check(self.repeats >= 1, "repeats", "1 or more", self.repeats)
        check(0 < self.seconds < 1000, "seconds", "positive, under 1000", self.seconds)
        good = self.output is None or self.output.lower().endswith(".png")
        check(good, "output", "a .png file", self.output)
