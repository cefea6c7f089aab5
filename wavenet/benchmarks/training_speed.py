"""How fast models train, measured side by side: forward, loss, backward and Adam, on noise.

Each way to train has a process of its own, so that its memory is its own and no way sets up the
machine for another. The processes take turns, round after round, with the machine's matrix products
in between: a figure is the median of its rounds, a ratio the median of ratios within rounds.
"""

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from wavenet.config import WaveNetConfig
from wavenet.model_summary import layer_rows
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import MachineError, printable

Way = Literal["baseline", "baseline_compiled", "fused", "fused_compiled", "fused_checkpointed"]
Precision = Literal["32-true", "bf16-mixed"]
PEAK = "peak"  # the process that multiplies matrices


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to train a model.

    Attributes:
        way: `textbook` is PyTorch's layers as they come; `wavenet` what `wavenet-train` does;
            `compiled` with torch.compile, `saving` with activation checkpointing.
        precision: Of its matrix products.
        batch_size: Crops of an update.
        crop: Samples of each.
        device: What it runs on.
    """

    way: Way
    precision: Precision
    batch_size: int
    crop: int
    device: str

    @property
    def name(self) -> str:
        """Return what tells it from others in a picture."""
        return f"{self.way.replace('_', ', ')}, {self.precision}, {self.batch_size} x {self.crop}"


@dataclass(kw_only=True)
class TrainingSpeed:
    """What was measured of a case.

    Attributes:
        case: The case.
        operations: Floating-point operations of a sample, forward and backward.
        rates: Samples a second, one a round.
        peaks: Operations a second of matrix products in its precision, one a round.
        memory_mib: Peak of what training needed, above what was there before the model.
    """

    case: Case
    operations: int
    rates: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    memory_mib: float = 0.0

    @property
    def median(self) -> float:
        """Return the middle of the rounds, samples a second."""
        return statistics.median(self.rates)

    @property
    def share_of_peak(self) -> float:
        """Return the middle of the rounds' shares of what the machine's matrix products reach."""
        pairs = zip(self.rates, self.peaks, strict=True)
        return statistics.median(rate * self.operations / peak for rate, peak in pairs)

    def times(self, other: "TrainingSpeed") -> float:
        """Return how many times as fast as another this is, the middle of the rounds' ratios."""
        return statistics.median(a / b for a, b in zip(self.rates, other.rates, strict=True))


def measure_training(
    config: WaveNetConfig,
    cases: Sequence[Case],
    rounds: int,
    seconds: float,
    progress: Callable[[int], None] | None = None,
) -> list[TrainingSpeed]:
    """Return the speed of each case, measured in turn.

    Args:
        config: Shape of the model: mu-law classes, no condition.
        cases: The ways to train it.
        rounds: Times that each is measured.
        seconds: Time of one measurement, at least one update.
        progress: Called with 1 after each measurement.

    Raises:
        EnvironmentFault: A process did not end well; its last words are told.
    """
    operations = 3 * sum(row.operations for row in layer_rows(config))
    speeds = [TrainingSpeed(case=case, operations=operations) for case in cases]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_process(case, config)) for case in cases]
        peak = stack.enter_context(_process(cases[0], None))
        for process in processes:
            process.ask(seconds)  # warm: first updates allocate, and may compile
        for _ in range(rounds):
            peaks = peak.ask(seconds)
            for speed, process in zip(speeds, processes, strict=True):
                found = process.ask(seconds)
                speed.rates.append(found["rate"])
                speed.peaks.append(peaks[speed.case.precision])
                speed.memory_mib = found["memory_mib"]
                if progress is not None:
                    progress(1)
    return speeds


@dataclass
class _Worker:
    name: str
    process: "subprocess.Popen[str]"

    def ask(self, seconds: float) -> dict[str, float]:
        """Return what the process measures in about so many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            assert self.process.stderr is not None
            said = self.process.stderr.read().strip().splitlines()
            words = printable(said[-1] if said else "it said nothing", 300)
            raise MachineError(f"the process that measures {self.name} failed: {words}")
        found: dict[str, float] = json.loads(line)
        return found


@contextlib.contextmanager
def _process(case: Case, config: WaveNetConfig | None) -> Iterator[_Worker]:
    """Yield a process that trains as a case says, or multiplies matrices without a model."""
    said = json.dumps([to_dict(case), None if config is None else to_dict(config)])
    process = subprocess.Popen(
        [sys.executable, "-m", "wavenet.benchmarks.benchmark_worker", said],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Worker(PEAK if config is None else case.name, process)
    finally:
        process.kill()
        process.communicate()


def training_table(speeds: Sequence[TrainingSpeed]) -> str:
    """Return the cases as lines to print; ratios are to the first textbook's of the same crops."""
    head = f"{'way':20}{'precision':>9}{'crops':>12}{'samples/s':>12}{'spread':>8}"
    lines = [f"{head}{'textbook':>10}{'of peak':>9}{'memory':>12}"]
    for speed in speeds:
        case, base = speed.case, base_of(speed, speeds)
        spread = (max(speed.rates) - min(speed.rates)) / 2 / speed.median
        ratio = "" if base is None else f"x {speed.times(base):.2f}"
        lines.append(
            f"{case.way.replace('_', ', '):20}{case.precision:>9}"
            f"{f'{case.batch_size} x {case.crop}':>12}{speed.median:>12,.0f}{f'±{spread:.0%}':>8}"
            f"{ratio:>10}{speed.share_of_peak:>9.2f}{f'{speed.memory_mib:,.0f} MiB':>12}"
        )
    return "\n".join(lines)


def base_of(speed: TrainingSpeed, speeds: Sequence[TrainingSpeed]) -> TrainingSpeed | None:
    """Return the textbook that a case is compared with: the first with its crops."""
    crops = speed.case.batch_size, speed.case.crop
    there = (other for other in speeds if (other.case.batch_size, other.case.crop) == crops)
    return next((other for other in there if other.case.way == "baseline"), None)


def plain_speeds(speeds: Sequence[TrainingSpeed]) -> list[dict[str, Any]]:
    """Return what was measured as plain data."""
    found = []
    for speed in speeds:
        base = base_of(speed, speeds)
        found.append(
            {
                **dataclasses.asdict(speed),
                "median": speed.median,
                "share_of_peak": speed.share_of_peak,
                "times_textbook": None if base is None else speed.times(base),
            }
        )
    return found
