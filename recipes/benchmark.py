"""Time the samplers side by side: `wavenet-benchmark`, `wavenet-benchmark checkpoint=RUN/model`."""

import json
import logging

from wavenet.cli.benchmark import benchmarks, machine, pictured, plain
from wavenet.cli.command import command
from wavenet.cli.compose import Composed
from wavenet.cli.options import BenchmarkCommand

log = logging.getLogger("wavenet")


def benchmark(options: BenchmarkCommand, composed: Composed) -> None:
    """Print a table, or JSON, for each model, and draw it."""
    told = print if not options.json else log.info
    told(machine())
    done = []
    for result in benchmarks(options):
        done.append(result)
        told(f"\n{result.table()}")
    for path in pictured(done, options.output):
        told(f"chart: {path}")
    if options.json:
        print(json.dumps(plain(done), indent=2))


def main() -> None:
    """Run `wavenet-benchmark`."""
    command("benchmark", __file__, BenchmarkCommand, benchmark)


if __name__ == "__main__":
    main()
