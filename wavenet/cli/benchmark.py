"""`wavenet-benchmark`'s work: which models, which cases, and what is told of them."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from wavenet import checkpoint
from wavenet.benchmarks.options import BenchmarkCommand
from wavenet.benchmarks.sampling_speed import (
    NOTHING,
    Speed,
    Start,
    cases,
    measure,
    measure_start,
    speed_table,
)
from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.data.dataset import Windows
from wavenet.evaluation.held_out import first_seconds, held_out_clips
from wavenet.evaluation.nll import WINDOW_SAMPLES, make_clip_reader, sampler_bits_per_sample
from wavenet.model import WaveNet
from wavenet.sampling import available_cores, make_sampler
from wavenet.utils.errors import ConfigError, DataError, MachineError, require
from wavenet.utils.progress import progress

log = logging.getLogger("wavenet")
DOUBLING = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SIZES = {
    "S": WaveNetConfig(
        dilations=DOUBLING * 2,
        residual_channels=32,
        gate_channels=64,
        skip_channels=128,
        head_channels=128,
    ),
    "M": WaveNetConfig(),
    "L": WaveNetConfig(
        dilations=DOUBLING[:6] * 4,
        kernel_size=3,
        residual_channels=128,
        gate_channels=256,
        skip_channels=128,
        head_channels=128,
    ),
}


TOLD: dict[str, dict[str, Any]] = {  # what a model is told: nothing, or as vocoders are
    NOTHING: {},
    "mel": {
        "local": LocalConfig(in_channels=80, channels=80, upsample_scales=(16, 16), lookahead=2)
    },
    "speaker": {"num_speakers": 100},
}


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What was measured of one model.

    Attributes:
        name: Size, or path of a checkpoint.
        parameters: Numbers that the model stores.
        sample_rate: Of its signal, in Hz.
        speeds: Of each case.
        start: Of new processes; absent if not asked for.
        bits: Bits per sample on held-out audio, by precision; empty where none was measured.
    """

    name: str
    parameters: int
    sample_rate: int
    speeds: Sequence[Speed]
    start: Start | None
    bits: dict[str, float]

    @property
    def mark(self) -> tuple[float, str]:
        """Real time."""
        return self.sample_rate, f"real time, {self.sample_rate:,} Hz"

    def table(self) -> str:
        """Return all of it as lines to print."""
        lines = [f"{self.name}: {self.parameters:,} parameters, {self.sample_rate:,} Hz"]
        lines.append(speed_table(self.speeds, self.sample_rate))
        if self.start is not None:
            lines.append(
                f"a new process: {self.start.warm_seconds:.2f} s to the first sample, "
                f"{self.start.first_seconds:.2f} s where it compiles first; peak memory "
                f"{self.start.memory_mib:.0f} MiB, {self.start.sampler_mib:.0f} of it the sampler's"
            )
        for precision, bits in self.bits.items():
            cost = bits - self.bits["float32"]
            lines.append(f"held-out bits per sample, {precision:9} {bits:.4f} ({cost:+.4f})")
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        speeds = [
            {
                **dataclasses.asdict(speed),
                "median": speed.median,
                "share_of_ceiling": speed.share_of_ceiling,
            }
            for speed in self.speeds
        ]
        return {**dataclasses.asdict(self), "speeds": speeds}


def benchmarks(options: BenchmarkCommand) -> Iterator[Benchmark]:
    """Measure one model after the other.

    Raises:
        ConfigError: A size or precision is unknown, or no core is left.
    """
    if options.output is not None:
        require_charts()
    cores = available_cores()
    threads = [count for count in options.num_threads if count <= cores]
    if not threads:
        raise ConfigError(f"threads={list(options.num_threads)}: this machine has {cores} cores")
    if len(threads) < len(options.num_threads):
        log.info("cores here: %d; more threads than that are left out", cores)
    torch.set_num_threads(1)  # the reference's products are small: one core is the fastest for them
    for name, models, rate, bits in _models(options):
        chosen = cases(options.batch_sizes, threads, options.weight_dtypes, list(models))
        model = next(iter(models.values()))
        total = len(chosen) * options.repeats
        with progress(total, unit="measurement", description=name) as advance:
            speeds = measure(models, chosen, options.repeats, options.seconds, advance)
        yield Benchmark(
            name=name,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            sample_rate=rate,
            speeds=speeds,
            start=measure_start(model.config) if options.measure_startup else None,
            bits=bits,
        )


def _models(
    options: BenchmarkCommand,
) -> Iterator[tuple[str, dict[str, WaveNet], int, dict[str, float]]]:
    """Yield a name, models by what they are told, their rate, and bits per sample by precision."""
    if options.checkpoint is not None:
        loaded = checkpoint.load(options.checkpoint)
        bits = _bits(options, options.checkpoint) if options.bits_seconds else {}
        yield options.checkpoint, {NOTHING: loaded.model}, loaded.audio.sample_rate, bits
        return
    for size in options.sizes:
        models: dict[str, WaveNet] = {}
        for told in options.conditioning:
            torch.manual_seed(0)
            models[told] = WaveNet(dataclasses.replace(SIZES[size], **TOLD[told])).eval()
        yield size, models, 16000, {}


def _bits(options: BenchmarkCommand, path: str) -> dict[str, float]:
    """Return bits per sample by precision, on what the model's run held out."""
    loaded = checkpoint.load(path)
    try:
        folder, clips = held_out_clips(Path(path), loaded.audio.sample_rate)
    except (ConfigError, DataError) as error:
        log.info("no bits per sample: the held-out clips of the run of %s are missing", path)
        log.debug("%s", error)
        return {}
    model = loaded.model
    windows = Windows(
        make_clip_reader(model.config, loaded.audio, folder),
        first_seconds(clips, options.bits_seconds),
        window=WINDOW_SAMPLES,
        context=model.config.receptive_field,
    )
    return {
        precision: sampler_bits_per_sample(
            make_sampler(model, "cpu", weight_dtype=precision), model.distribution, windows
        )
        for precision in ("float32", *(p for p in options.weight_dtypes if p != "float32"))
    }


def machine() -> str:
    """Return a line on what is measured here."""
    require("numba", "generate")
    from wavenet.kernels.compiler import processor

    return f"{available_cores()} cores of {processor()}, PyTorch {torch.__version__}"


def require_charts() -> None:
    """Raise now, not after minutes of measuring, where no chart can be drawn."""
    try:
        require("matplotlib", "train")
    except MachineError as fault:
        raise MachineError(f"{fault}; or say output=null for no chart") from fault


class Charted(Protocol):
    """What was measured of one model, by any benchmark."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def parameters(self) -> int:
        """Numbers that it stores."""

    @property
    def mark(self) -> tuple[float, str]:
        """Speed to compare with, in samples a second, and its name."""

    @property
    def speeds(self) -> Sequence[Any]:
        """Cases with their rates."""

    def table(self) -> str:
        """Return all of it as lines to print."""

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain data."""


def pictured(results: Sequence[Charted], output: str | None) -> list[Path]:
    """Draw a bar chart for each model, if they are wanted; return their files."""
    if output is None:
        return []
    from wavenet.evaluation import plots as pictures

    paths = []
    for result in results:
        path = Path(output)
        if len(results) > 1:
            path = path.with_name(f"{path.stem}-{result.name}{path.suffix}")
        rates = {speed.case.name: speed.median for speed in result.speeds}
        spreads = {
            speed.case.name: (max(speed.rates) - min(speed.rates)) / 2 for speed in result.speeds
        }
        title = f"{result.name}: {result.parameters:,} parameters"
        pictures.save(pictures.speed_bars(title, rates, spreads, result.mark), path)
        paths.append(path)
    return paths
