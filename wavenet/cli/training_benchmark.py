"""`wavenet-benchmark train`'s work: ways to train side by side, and whether reading keeps up."""

import itertools
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavenet.benchmarks.options import TrainBenchmarkCommand
from wavenet.benchmarks.training_speed import (
    Case,
    TrainingSpeed,
    base_of,
    measure_training,
    plain_speeds,
    training_table,
)
from wavenet.cli.benchmark import SIZES, require_charts
from wavenet.data.audio import WavWriter
from wavenet.data.clip_reader import ClipReader
from wavenet.data.dataset import RandomSegments
from wavenet.data.manifest import Clip, read_manifest, write_manifest
from wavenet.utils.files import file_digest
from wavenet.utils.progress import progress

CLIPS = 50  # of five seconds at 16 kHz, that crops are read from
SECONDS = 1.0  # of reading
log = logging.getLogger("wavenet")


@dataclass(frozen=True, kw_only=True)
class TrainBenchmark:
    """What was measured of one size.

    Attributes:
        name: Its letter.
        parameters: Numbers that the model stores.
        speeds: Of each way.
        crops_read: Crops a second that one process reads, by their length.
    """

    name: str
    parameters: int
    speeds: list[TrainingSpeed]
    crops_read: dict[int, float]

    @property
    def mark(self) -> tuple[float, str]:
        """The textbook's speed, or the first way's where that was not measured."""
        base = base_of(self.speeds[0], self.speeds) or self.speeds[0]
        return base.median, base.case.name

    def table(self) -> str:
        """Return all of it as lines to print."""
        lines = [f"{self.name}: {self.parameters:,} parameters", training_table(self.speeds)]
        for crop, read in self.crops_read.items():
            need = max(s.median for s in self.speeds if s.case.crop == crop) / crop
            lines.append(
                f"crops of {crop}: the fastest trains on {need:,.1f} a second, one process reads "
                f"{read:,.0f}"
            )
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "name": self.name,
            "parameters": self.parameters,
            "ways": plain_speeds(self.speeds),
            "crops_read": self.crops_read,
        }


def train_benchmarks(options: TrainBenchmarkCommand) -> Iterator[TrainBenchmark]:
    """Measure one size after the other."""
    if options.output is not None:
        require_charts()
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    crops = [
        (int(count), int(crop)) for count, crop in (c.split("x") for c in options.batch_shapes)
    ]
    for size in options.sizes:
        config = SIZES[size]
        cases = [
            Case(way=way, precision=precision, batch_size=count, crop=crop, device=device)
            for (count, crop), way, precision in itertools.product(
                crops, options.implementations, options.precisions
            )
        ]
        log.info("measuring %s: %d ways, %d rounds", size, len(cases), options.repeats)
        with progress(
            len(cases) * options.repeats, unit="measurement", description=size
        ) as advance:
            speeds = measure_training(config, cases, options.repeats, options.seconds, advance)
        yield TrainBenchmark(
            name=size,
            parameters=config_parameters(size),
            speeds=speeds,
            crops_read={crop: crops_read(crop, config.receptive_field) for _, crop in crops},
        )


def config_parameters(size: str) -> int:
    """Return how many numbers a model of a size stores."""
    from wavenet.model_summary import layer_rows

    return sum(row.parameters for row in layer_rows(SIZES[size]))


def crops_read(crop: int, context: int) -> float:
    """Return how many crops of prepared clips this process reads in a second."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = []
        for number in range(CLIPS):
            path = folder / f"{number}.wav"
            samples = (generator.random(80_000) - 0.5).astype(np.float32)
            with WavWriter(path, 16000) as file:
                file.write(samples)
            clips.append(
                Clip(path.name, len(samples), 16000, "", "train", file_digest(path), path.name, 0)
            )
        write_manifest(folder / "manifest.jsonl", clips)
        items = RandomSegments(
            ClipReader(folder),
            read_manifest(folder, "train"),
            crop=crop,
            context=context,
            batch_size=1,
            seed=0,
        )
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < SECONDS:
            items[count]
            count += 1
        return count / (time.perf_counter() - started)
