"""What all benchmarks share: interleaved measurements, a table, JSON and a chart.

Machines are shared and their speed drifts. So all cases are measured in turn, several times; the
speed of a case is the median of its repeats, a ratio of two cases the median of the ratios within
repeats. Ratios of one run are more reliable than absolute numbers.
"""

import contextlib
import dataclasses
import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch

from wavenet.utils.cores import available_cores
from wavenet.utils.errors import MachineError, printable, require
from wavenet.utils.progress import progress

log = logging.getLogger("wavenet")


class Case(Protocol):
    """What is measured: a frozen dataclass, whose fields are columns of the table."""

    @property
    def name(self) -> str:
        """Return its label in a chart."""

    def is_baseline_of(self, other: Any) -> bool:
        """Return whether `other` is compared with this case."""


CaseT = TypeVar("CaseT", bound=Case)


class Timing(NamedTuple):
    """One measurement."""

    rate: float  # samples per second, over all streams
    limit: float | None = None  # samples per second that the hardware allows, if measured too
    memory_mib: float | None = None  # peak, if measured too


@dataclass(frozen=True)
class Measurement(Generic[CaseT]):
    """A case and its timings, one for each repeat."""

    case: CaseT
    timings: list[Timing] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return samples per second."""
        return statistics.median(timing.rate for timing in self.timings)

    @property
    def half_range(self) -> float:
        """Return half the distance from the slowest to the fastest repeat."""
        rates = [timing.rate for timing in self.timings]
        return (max(rates) - min(rates)) / 2

    @property
    def share_of_limit(self) -> float | None:
        """Return the median ratio of the rate to the hardware limit of the same repeat."""
        ratios = [timing.rate / timing.limit for timing in self.timings if timing.limit]
        return statistics.median(ratios) if ratios else None

    @property
    def memory_mib(self) -> float | None:
        """Return the peak memory of all repeats."""
        found = [timing.memory_mib for timing in self.timings if timing.memory_mib is not None]
        return max(found, default=None)

    def times(self, other: "Measurement[Any]") -> float:
        """Return how many times as fast as `other` this is."""
        pairs = zip(self.timings, other.timings, strict=True)
        return statistics.median(mine.rate / its.rate for mine, its in pairs)


def measure_interleaved(
    cases: Sequence[CaseT],
    measure_all: Callable[[int], Iterable[Timing]],
    repeats: int,
    description: str,
) -> list[Measurement[CaseT]]:
    """Return the measurements of all cases.

    Args:
        cases: What is measured.
        measure_all: Called with the number of the repeat; yields a timing of each case, in order.
        repeats: Measurements of each case.
        description: For the progress bar.
    """
    measurements = [Measurement(case) for case in cases]
    total = repeats * len(cases)
    with progress(total, unit="measurement", description=description) as advance:
        for repeat in range(repeats):
            for measurement, timing in zip(measurements, measure_all(repeat), strict=True):
                measurement.timings.append(timing)
                advance()
    return measurements


@contextlib.contextmanager
def worker_process(
    make_measure: Callable[..., Callable[[Any], Any]],
    arguments: Sequence[Any],
    name: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Callable[[float], Any]]:
    """Yield a function that measures in a process of its own, started now and killed at the end.

    Args:
        make_measure: Function of a module; the process calls what it returns for each measurement.
        arguments: Its arguments, as plain data.
        name: What is measured, for messages.
        environment: Environment variables of the process; `None` for those of this one.

    Raises:
        MachineError: The process failed; the message has the last line of its stderr.
    """
    function = make_measure.__name__
    code = (
        f"from {__name__} import serve; from {make_measure.__module__} import {function}; "
        f"serve({function})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    requests, answers, errors = process.stdin, process.stdout, process.stderr

    def measure(amount: float) -> Any:
        with contextlib.suppress(BrokenPipeError):
            requests.write(f"{amount}\n")
            requests.flush()
        line = answers.readline()
        if not line:
            process.wait()
            lines = errors.read().strip().splitlines()
            reason = printable(lines[-1] if lines else "no message", 300)
            raise MachineError(f"the process that measures {name} failed: {reason}")
        return json.loads(line)

    try:
        yield measure
    finally:
        process.kill()
        process.communicate()


def serve(make_measure: Callable[..., Callable[[Any], Any]]) -> None:
    """Answer the requests of `worker_process`: a line of JSON for each number on stdin."""
    measure = make_measure(*json.loads(sys.argv[1]))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(measure(json.loads(line))) + "\n")
        sys.stdout.flush()


def calls_per_second(function: Callable[[], object], device: str, seconds: float) -> float:
    """Call a function for so long, at least once."""
    synchronize: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        function()
        synchronize()
        count += 1
    return count / (time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The benchmark of one model."""

    name: str  # size of the model, or the path of its directory
    num_parameters: int  # number of its weights
    measurements: Sequence[Measurement[Any]]  # of all cases
    sample_rate: int | None = None  # real time, in Hz, if the speed is compared with that
    notes: Sequence[str] = ()  # lines below the table
    details: dict[str, Any] = field(default_factory=dict)  # further keys of the JSON

    @property
    def title(self) -> str:
        """Return its name and size."""
        return f"{self.name}: {self.num_parameters:,} parameters"

    def table(self) -> str:
        """Return a title, one line for each case, and the notes."""
        rate = "" if self.sample_rate is None else f", {self.sample_rate:,} Hz"
        rows = [self._row(measurement) for measurement in self.measurements]
        columns = [name for name in rows[0] if any(row[name] for row in rows)]
        widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
        lines = [
            "  ".join(f"{row[name]:>{widths[name]}}" for name in columns)
            for row in ({name: name for name in columns}, *rows)
        ]
        return "\n".join([self.title + rate, *lines, *self.notes])

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data for JSON."""
        bases = [self._baseline_of(one) for one in self.measurements]
        measurements = [
            {
                "case": dataclasses.asdict(one.case),
                "rates": [timing.rate for timing in one.timings],
                "limits": [timing.limit for timing in one.timings],
                "median": one.median,
                "times_baseline": None if base is None else one.times(base),
                "share_of_limit": one.share_of_limit,
                "memory_mib": one.memory_mib,
            }
            for one, base in zip(self.measurements, bases, strict=True)
        ]
        head = {name: getattr(self, name) for name in ("name", "num_parameters", "sample_rate")}
        return {**head, "measurements": measurements, **self.details}

    def draw(self, path: Path) -> None:
        """Draw a bar chart of the cases, with a line at real time or at the baseline's speed."""
        from wavenet.evaluation import plots

        first = self._baseline_of(self.measurements[0]) or self.measurements[0]
        line = (first.median, first.case.name)
        if self.sample_rate is not None:
            line = (self.sample_rate, f"real time, {self.sample_rate:,} Hz")
        rates = {one.case.name: one.median for one in self.measurements}
        spreads = {one.case.name: one.half_range for one in self.measurements}
        plots.save(plots.speed_bars(self.title, rates, spreads, line), path)

    def _baseline_of(self, one: Measurement[Any]) -> Measurement[Any] | None:
        found = (other for other in self.measurements if other.case.is_baseline_of(one.case))
        return next(found, None)

    def _row(self, one: Measurement[Any]) -> dict[str, str]:
        """Return the text of each column by its name; columns without any text are not shown."""
        base, share, memory = self._baseline_of(one), one.share_of_limit, one.memory_mib
        return {
            **{name: str(value) for name, value in dataclasses.asdict(one.case).items()},
            "samples/s": f"{one.median:,.0f}",
            "spread": f"±{one.half_range / one.median:.0%}",
            "real-time factor": f"{self.sample_rate / one.median:.3f}" if self.sample_rate else "",
            "baseline": "" if base is None else f"x {one.times(base):.2f}",
            "of limit": "" if share is None else f"{share:.2f}",
            "memory": "" if memory is None else f"{memory:,.0f} MiB",
        }


def report(
    measured: Iterable[Result], output: str | None, show: Callable[[str], object], *, as_json: bool
) -> None:
    """Show the machine, and the table of each model as it is measured; then draw the charts.

    Args:
        measured: What to measure, a model at a time.
        output: PNG file of the chart; `None` for no chart.
        show: Called with each text, such as `print`.
        as_json: Show everything as JSON at the end; the tables go to the log.

    Raises:
        MachineError: matplotlib is missing for the chart.
    """
    show_table = log.info if as_json else show
    if output is not None:  # fail before the measurements, not after
        try:
            require("matplotlib", "train")
        except MachineError as error:
            raise MachineError(f"{error}; or use output=null for no chart") from error
    show_table(machine_line())
    results = []
    for result in measured:
        show_table(f"\n{result.table()}")
        results.append(result)
    for path in draw_charts(results, output):
        show_table(f"chart: {path}")
    if as_json:
        show(json_text(results))


def draw_charts(results: Sequence[Result], output: str | None) -> list[Path]:
    """Draw a chart for each model, unless `output` is `None`; return the files.

    Args:
        results: What was measured.
        output: PNG file; for several models their name is inserted before the suffix.
    """
    if output is None:
        return []
    path, paths = Path(output), []
    for result in results:
        name = f"{path.stem}-{result.name}{path.suffix}" if len(results) > 1 else path.name
        paths.append(path.with_name(name))
        result.draw(paths[-1])
    return paths


def json_text(results: Sequence[Result]) -> str:
    """Return everything that was measured as JSON."""
    models = [result.plain() for result in results]
    return json.dumps({"machine": machine_line(), "models": models}, indent=2)


def machine_line() -> str:
    """Return a line that describes this machine."""
    require("numba", "generate")
    from wavenet.kernels.compiler import processor

    return f"{available_cores()} cores of {processor()}, PyTorch {torch.__version__}"


def process_memory_mib(*, peak: bool = False) -> float:
    """Return the memory of this process, now or at its peak."""
    import resource  # not on Windows

    if not peak:
        with contextlib.suppress(OSError):  # not Linux
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            return pages * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
