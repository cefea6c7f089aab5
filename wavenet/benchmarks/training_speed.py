"""Speed of training: forward, loss, backward and Adam, on noise.

Each case has a process of its own, so that its memory is its own and no case changes the settings
of another. One more process measures the matrix products of this machine, the hardware limit.
"""

import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from wavenet.benchmarks.framework import Measurement, Timing, measure_interleaved
from wavenet.config import WaveNetConfig
from wavenet.data.audio import WavWriter
from wavenet.data.dataset import ClipReader, RandomSegments
from wavenet.data.manifest import Clip, read_manifest, write_manifest
from wavenet.model_summary import layer_rows
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import MachineError, printable
from wavenet.utils.files import file_digest

Implementation = Literal[
    "baseline", "baseline_compiled", "fused", "fused_compiled", "fused_checkpointed"
]
Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class TrainingCase:
    """An implementation and the shape of its batches.

    Attributes:
        implementation: `baseline` is WaveNet in PyTorch's own layers, `fused` what `wavenet-train`
            runs; `compiled` adds torch.compile, `checkpointed` activation checkpointing.
        precision: Of the matrix products.
        device: `cpu` or `cuda`.
        batch_size: Segments of one update.
        segment_length: Samples of each segment.
    """

    implementation: Implementation
    precision: Precision
    device: str
    batch_size: int
    segment_length: int

    @property
    def name(self) -> str:
        """Return its label in a chart."""
        shape = f"{self.batch_size} x {self.segment_length}"
        return f"{self.implementation.replace('_', ', ')}, {self.precision}, {shape}"

    def is_baseline_of(self, other: "TrainingCase") -> bool:
        """Return whether this is the baseline with the same batches."""
        shape = (self.batch_size, self.segment_length)
        same = shape == (other.batch_size, other.segment_length)
        return self.implementation == "baseline" and same


def training_cases(
    batch_shapes: Sequence[str],
    implementations: Sequence[Implementation],
    precisions: Sequence[Precision],
    device: str,
) -> list[TrainingCase]:
    """Return all combinations; a shape is such as `8x16000`, segments and samples of each."""
    combinations = itertools.product(batch_shapes, implementations, precisions)
    return [
        TrainingCase(implementation, precision, device, *map(int, shape.split("x")))
        for shape, implementation, precision in combinations
    ]


def measure_training(
    config: WaveNetConfig,
    cases: Sequence[TrainingCase],
    repeats: int,
    seconds: float,
    description: str = "training",
) -> list[Measurement[TrainingCase]]:
    """Return the speed and memory of each case, and the limit by this machine's matrix products.

    Args:
        config: Shape of the model: mu-law classes, unconditional.
        cases: What is measured.
        repeats: Measurements of each case.
        seconds: Time of one measurement, at least one update.
        description: For the progress bar.

    Raises:
        MachineError: A process failed; the message has the last line of its stderr.
    """
    operations = 3 * sum(row.operations for row in layer_rows(config))  # forward and backward
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(case, config)) for case in cases]
        matrix_products = stack.enter_context(_worker(cases[0], None))
        for worker in workers:
            worker.measure(seconds)  # the first updates allocate memory, and may compile

        def measure_all(repeat: int) -> Iterator[Timing]:
            peaks = matrix_products.measure(seconds)
            for case, worker in zip(cases, workers, strict=True):
                found = worker.measure(seconds)
                yield Timing(found["rate"], peaks[case.precision] / operations, found["memory_mib"])

        return measure_interleaved(cases, measure_all, repeats, description)


@dataclass
class _Worker:
    """A process that measures when it is asked."""

    name: str
    process: "subprocess.Popen[str]"

    def measure(self, seconds: float) -> dict[str, float]:
        """Return what the process measures in about that time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            assert self.process.stderr is not None
            lines = self.process.stderr.read().strip().splitlines()
            reason = printable(lines[-1] if lines else "no message", 300)
            raise MachineError(f"the process that measures {self.name} failed: {reason}")
        found: dict[str, float] = json.loads(line)
        return found


@contextlib.contextmanager
def _worker(case: TrainingCase, config: WaveNetConfig | None) -> Iterator[_Worker]:
    """Yield a process that trains; without a config, one that multiplies matrices."""
    argument = json.dumps([to_dict(case), None if config is None else to_dict(config)])
    process = subprocess.Popen(
        [sys.executable, "-m", "wavenet.benchmarks.benchmark_worker", argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Worker("matrix products" if config is None else case.name, process)
    finally:
        process.kill()
        process.communicate()


def segments_read_per_second(
    segment_length: int, context: int, *, num_clips: int = 50, seconds: float = 1.0
) -> float:
    """Return how many segments of prepared clips one process reads in a second.

    Args:
        segment_length: Samples of a segment.
        context: Samples before each segment: the receptive field.
        num_clips: Clips of five seconds at 16 kHz, in a temporary folder.
        seconds: Time of the measurement.
    """
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = []
        for number in range(num_clips):
            path = folder / f"{number}.wav"
            with WavWriter(path, 16000) as file:
                file.write((generator.random(80_000) - 0.5).astype(np.float32))
            digest = file_digest(path)
            clips.append(Clip(path.name, 80_000, 16000, "", "train", digest, path.name, 0))
        write_manifest(folder / "manifest.jsonl", clips)
        segments = RandomSegments(
            ClipReader(folder),
            read_manifest(folder, "train"),
            segment_length=segment_length,
            context=context,
            batch_size=1,
            seed=0,
        )
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            segments[count]
            count += 1
        return count / (time.perf_counter() - started)
