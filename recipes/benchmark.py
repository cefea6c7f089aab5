"""Measure how fast samplers generate on this machine: `wavenet-benchmark`."""

from collections.abc import Iterator

import wavenet
from wavenet.benchmarks.framework import Result, report
from wavenet.benchmarks.sampling_speed import (
    UNCONDITIONAL,
    bits_by_weight_dtype,
    conditioning_cost,
    measure_sampling,
    measure_startup,
    sampling_cases,
    untrained_models,
)
from wavenet.cli.commands import BenchmarkCommand
from wavenet.cli.compose import Composed, refuse_beside_checkpoint
from wavenet.cli.main import run_process
from wavenet.model import WaveNet
from wavenet.presets import MODEL_SIZES
from wavenet.pretrained import find_model


def benchmark(options: BenchmarkCommand, composed: Composed) -> None:
    """Measure each model; print a table or JSON, and draw a chart."""
    refuse_beside_checkpoint(options.checkpoint, composed, ("sizes", "conditioning"))
    report(measure(options), options.output, print, as_json=options.json)


def measure(options: BenchmarkCommand) -> Iterator[Result]:
    """Yield the speed of each model, what starting a process costs, and what low precision does."""
    for name, models, sample_rate in models_to_measure(options):
        cases = sampling_cases(
            options.batch_sizes,
            options.num_threads,
            options.weight_dtypes,
            tuple(models),
            options.backends,
        )
        measurements = measure_sampling(models, cases, options.repeats, options.seconds, name)
        model = next(iter(models.values()))
        startup = measure_startup(model.config) if options.measure_startup else None
        bits = {}
        if options.checkpoint is not None and options.bits_seconds:
            bits = bits_by_weight_dtype(
                find_model(options.checkpoint), options.weight_dtypes, options.bits_seconds
            )
        notes = [*conditioning_cost(measurements), *([] if startup is None else [str(startup)])]
        for weight_dtype, value in bits.items():
            difference = value - bits["float32"]
            notes.append(
                f"held-out bits per sample, {weight_dtype:9}{value:.4f} ({difference:+.4f})"
            )
        yield Result(
            name=name,
            num_parameters=sum(weights.numel() for weights in model.parameters()),
            measurements=measurements,
            sample_rate=sample_rate,
            notes=notes,
            details={"startup": None if startup is None else vars(startup), "bits": bits},
        )


def models_to_measure(
    options: BenchmarkCommand,
) -> Iterator[tuple[str, dict[str, WaveNet], int]]:
    """Yield the name, the models by kind of conditioning, and the sample rate."""
    if options.checkpoint is not None:
        loaded = wavenet.load(options.checkpoint)
        yield options.checkpoint, {UNCONDITIONAL: loaded.model}, loaded.audio.sample_rate
        return
    for size in options.sizes:
        models = untrained_models(MODEL_SIZES[size], options.conditioning)
        yield size, models, 16000  # Hz, to compare with


if __name__ == "__main__":
    run_process("benchmark", benchmark)
