"""Measure the fused stacks of other projects' shapes here: `wavenet-benchmark-blocks`."""

from collections.abc import Iterator

import torch

from wavenet.benchmarks.block_speed import block_cases, measure_blocks, textbook_stack
from wavenet.benchmarks.framework import Result, report
from wavenet.cli.commands import BlockBenchmarkCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_process
from wavenet.utils.errors import ConfigError


def benchmark_blocks(options: BlockBenchmarkCommand, composed: Composed) -> None:
    """Measure each stack; print a table or JSON, and draw a chart."""
    report(measure(options), options.output, print, as_json=options.json)


def measure(options: BlockBenchmarkCommand) -> Iterator[Result]:
    """Yield the speed of each stack."""
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: PyTorch finds no GPU here; set device=cpu or leave it out")
    for name, shape in zip(options.stacks, options.batch_shapes, strict=True):
        textbook = textbook_stack(name)
        cases = block_cases(
            options.implementations, options.passes, options.precisions, device, shape
        )
        yield Result(
            name=name,
            num_parameters=sum(weight.numel() for weight in textbook.parameters()),
            measurements=measure_blocks(textbook, cases, options.repeats, options.seconds, name),
        )


if __name__ == "__main__":
    run_process("benchmark_blocks", benchmark_blocks)
