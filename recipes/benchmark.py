"""Time samplers or training side by side: `wavenet-benchmark`, `wavenet-benchmark train`."""

import json
import logging
import sys
from collections.abc import Iterable

from wavenet.benchmarks.options import BenchmarkCommand, TrainBenchmarkCommand
from wavenet.cli.benchmark import Charted, benchmarks, machine, pictured
from wavenet.cli.command import command
from wavenet.cli.compose import Composed

log = logging.getLogger("wavenet")


def benchmark(options: BenchmarkCommand, composed: Composed) -> None:
    """Measure the samplers of each model."""
    _tell(benchmarks(options), options.output, as_json=options.json)


def train_benchmark(options: TrainBenchmarkCommand, composed: Composed) -> None:
    """Measure the ways to train each size."""
    from wavenet.cli.training_benchmark import train_benchmarks

    _tell(train_benchmarks(options), options.output, as_json=options.json)


def _tell(results: Iterable[Charted], output: str | None, *, as_json: bool) -> None:
    """Print a table, or JSON, for each model, and draw it."""
    told = log.info if as_json else print
    told(machine())
    done = []
    for result in results:
        done.append(result)
        told(f"\n{result.table()}")
    for path in pictured(done, output):
        told(f"chart: {path}")
    if as_json:
        plain = {"machine": machine(), "models": [result.plain() for result in done]}
        print(json.dumps(plain, indent=2))


def main() -> None:
    """Run `wavenet-benchmark`, or `wavenet-benchmark train`."""
    if sys.argv[1:2] == ["train"]:
        del sys.argv[1]
        command("benchmark_train", __file__, TrainBenchmarkCommand, train_benchmark, extra="train")
    else:
        command("benchmark", __file__, BenchmarkCommand, benchmark)


if __name__ == "__main__":
    main()
