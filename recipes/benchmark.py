"""Time the samplers side by side: `wavenet-benchmark`, `wavenet-benchmark checkpoint=RUN/model`."""

import json

from wavenet.cli.benchmark import benchmarks, pictured, plain
from wavenet.cli.command import command
from wavenet.cli.compose import Composed
from wavenet.cli.options import BenchmarkCommand


def benchmark(options: BenchmarkCommand, composed: Composed) -> None:
    """Print a table, or JSON, for each model, and draw it."""
    done = []
    for result in benchmarks(options):
        done.append(result)
        if not options.json:
            print(result.table(), end="\n\n", flush=True)
    if options.json:
        print(json.dumps(plain(done), indent=2))
    if options.output is not None:
        for path in pictured(done, options.output):
            print(f"chart: {path}") if not options.json else None


def main() -> None:
    """Run `wavenet-benchmark`."""
    command("benchmark", __file__, BenchmarkCommand, benchmark)


if __name__ == "__main__":
    main()
