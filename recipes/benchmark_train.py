"""Measure how fast models train on this machine: `wavenet-benchmark-train`."""

from collections.abc import Iterator

import torch

from wavenet.benchmarks.framework import Result, report
from wavenet.benchmarks.training_speed import (
    measure_training,
    segments_read_per_second,
    training_cases,
)
from wavenet.cli.commands import TrainBenchmarkCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_process
from wavenet.model_summary import layer_rows
from wavenet.presets import MODEL_SIZES


def benchmark_train(options: TrainBenchmarkCommand, composed: Composed) -> None:
    """Measure each model; print a table or JSON, and draw a chart."""
    report(measure(options), options.output, print, as_json=options.json)


def measure(options: TrainBenchmarkCommand) -> Iterator[Result]:
    """Yield the speed of each model, with that of one process that reads segments."""
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    cases = training_cases(
        options.batch_shapes, options.implementations, options.precisions, device
    )
    for size in options.sizes:
        config = MODEL_SIZES[size]
        measurements = measure_training(config, cases, options.repeats, options.seconds, size)
        notes, segments_read = [], {}
        for length in dict.fromkeys(case.segment_length for case in cases):
            segments_read[length] = segments_read_per_second(
                length, config.receptive_field, seconds=options.seconds
            )
            fastest = max(one.median for one in measurements if one.case.segment_length == length)
            notes.append(
                f"segments of {length}: the fastest trains on {fastest / length:,.1f} per second, "
                f"one process reads {segments_read[length]:,.0f}"
            )
        yield Result(
            name=size,
            num_parameters=sum(row.num_parameters for row in layer_rows(config)),
            measurements=measurements,
            notes=notes,
            details={"segments_read_per_second": segments_read},
        )


if __name__ == "__main__":
    run_process("benchmark_train", benchmark_train)
