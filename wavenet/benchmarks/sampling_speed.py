"""How fast samplers generate, measured side by side.

Machines are shared and their speed drifts, so all cases are measured in turn, round after round,
and a case's figure is the median of its rounds. Ratios within a run hold better than numbers.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet
from wavenet.sampling import Sampler, make_sampler
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import MachineError, printable

REFERENCE = "reference"
NOTHING = "none"  # what a model is told by default


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to generate.

    Attributes:
        backend: Sampler.
        precision: Of its weights.
        threads: Cores that it may use.
        batch: Streams at once.
        told: Which of the models that are compared: what it is told.
    """

    backend: str
    precision: str
    threads: int
    batch: int
    told: str = NOTHING

    @property
    def name(self) -> str:
        """Return what tells it from others in a picture."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        told = "" if self.told == NOTHING else f", told {self.told}"
        return f"{self.backend}, {self.precision}, {threads}, batch {self.batch}{told}"


@dataclass(kw_only=True)
class Speed:
    """What was measured of a case.

    Attributes:
        case: The case.
        rates: Samples a second over all streams, one a round.
        ceilings: Samples a second if the weights were only read, one a round; for one stream.
    """

    case: Case
    rates: list[float] = field(default_factory=list)
    ceilings: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the middle of the rounds, samples a second."""
        return statistics.median(self.rates)

    @property
    def share_of_ceiling(self) -> float | None:
        """Return the median ratio of the rate to the ceiling measured right after it."""
        if not self.ceilings:
            return None
        return statistics.median(
            rate / ceiling for rate, ceiling in zip(self.rates, self.ceilings, strict=True)
        )


def cases(
    batches: Sequence[int],
    threads: Sequence[int],
    precisions: Sequence[str],
    told: Sequence[str] = (NOTHING,),
) -> list[Case]:
    """Return the reference and every way of the CPU sampler."""
    found = [Case(backend=REFERENCE, precision="float32", threads=1, batch=1, told=told[0])]
    ways = itertools.product(batches, threads, precisions, told)
    found += [
        Case(backend="cpu", precision=precision, threads=count, batch=batch, told=what)
        for batch, count, precision, what in ways
    ]
    return found


def measure(
    models: Mapping[str, WaveNet],
    chosen: Sequence[Case],
    rounds: int,
    seconds: float,
    progress: Callable[[int], None] | None = None,
) -> list[Speed]:
    """Return the speed of each case, measured in turn.

    Args:
        models: What to generate from, by what a case is told.
        chosen: The cases.
        rounds: Times that each is measured.
        seconds: Time of one measurement.
        progress: Called with 1 after each measurement, `rounds * len(chosen)` times.
    """
    samplers = {
        _way(case): make_sampler(
            models[case.told], case.backend, num_threads=case.threads, weight_dtype=case.precision
        )
        for case in chosen
    }
    told = {name: model.config for name, model in models.items()}
    speeds = [Speed(case=case) for case in chosen]
    lengths = [
        _length(samplers[_way(case)], told[case.told], case.batch, seconds) for case in chosen
    ]
    for index in range(rounds):
        for speed, length in zip(speeds, lengths, strict=True):
            case = speed.case
            sampler = samplers[_way(case)]
            speed.rates.append(_rate(sampler, told[case.told], case.batch, length, seed=index))
            if case.backend == "cpu" and case.batch == 1:
                speed.ceilings.append(_ceiling(sampler, seconds))
            if progress is not None:
                progress(1)
    return speeds


def _way(case: Case) -> tuple[str, str, int, str]:
    return case.told, case.backend, case.threads, case.precision


def _rate(sampler: Sampler, config: WaveNetConfig, batch: int, length: int, seed: int = 0) -> float:
    conditions = some_conditions(config, batch, length)
    started = time.perf_counter()
    sampler.generate(length, batch_size=batch, seed=seed, **conditions)
    return batch * length / (time.perf_counter() - started)


def some_conditions(config: WaveNetConfig, batch: int, length: int) -> dict[str, Any]:
    """Return something to tell a model; what it is costs nothing."""
    conditions: dict[str, Any] = {}
    if config.local is not None:
        frames = -(-length // config.local.hop_length)
        conditions["local"] = torch.zeros(batch, config.local.in_channels, frames)
    if config.num_speakers:
        conditions["speaker"] = torch.zeros(batch, dtype=torch.int64)
    if config.global_in_channels:
        conditions["vector"] = torch.zeros(batch, config.global_in_channels)
    return conditions


def _length(sampler: Sampler, config: WaveNetConfig, batch: int, seconds: float) -> int:
    """Return how many samples take about `seconds`."""
    length = 20
    while length < 10**7:
        taken = batch * length / _rate(sampler, config, batch, length)
        if taken > seconds / 10:
            return max(20, round(length * seconds / taken))
        length *= 4
    return length


def _ceiling(sampler: Sampler, seconds: float) -> float:
    from wavenet.benchmarks.bandwidth import streaming_ceiling
    from wavenet.sampling.cpu import CpuSampler

    assert isinstance(sampler, CpuSampler)
    return streaming_ceiling(sampler, seconds / 2)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a new process needs until it can generate.

    Attributes:
        first_seconds: To make a sampler and a first sample where nothing was compiled before.
        warm_seconds: The same where it was.
        memory_mib: Peak of its memory, all included.
        sampler_mib: Memory that came with the sampler, compiler and state included.
    """

    first_seconds: float
    warm_seconds: float
    memory_mib: float
    sampler_mib: float


_START = """
import json, resource, sys, time
import torch
from wavenet.config import WaveNetConfig
from wavenet.benchmarks.sampling_speed import some_conditions
from wavenet.utils.dataclass_io import from_dict
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler
torch.set_num_threads(1)
model = WaveNet(from_dict(WaveNetConfig, json.loads(sys.argv[1])))
conditions = lambda length: some_conditions(model.config, 1, length)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def memory():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return peak()
before, started = memory(), time.perf_counter()
sampler = make_sampler(model, "cpu")
sampler.generate(1, **conditions(1))
taken = time.perf_counter() - started
sampler.generate(2000, **conditions(2000))
print(json.dumps([taken, max(peak(), memory()), memory() - before]))
"""


def measure_start(config: WaveNetConfig) -> Start:
    """Return what new processes need, with an empty cache for compiled code and with a full one.

    Raises:
        EnvironmentFault: A process did not end well.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "WAVENET_CACHE": os.path.join(folder, "cache")}  # noqa: PTH118
        runs = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", _START, json.dumps(to_dict(config))],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise MachineError(f"a new process failed: {printable(done.stderr[-300:])}")
            runs.append(json.loads(done.stdout))
    (first, *_), (warm, peak, own) = runs
    return Start(first_seconds=first, warm_seconds=warm, memory_mib=peak, sampler_mib=own)


def speed_table(speeds: Sequence[Speed], sample_rate: int) -> str:
    """Return the cases as lines to print.

    Args:
        speeds: One of them the reference.
        sample_rate: What is real time, in Hz.
    """
    reference = next(speed.median for speed in speeds if speed.case.backend == REFERENCE)
    head = f"{'backend':10}{'precision':>9}{'threads':>8}{'batch':>6}{'samples/s':>12}{'spread':>8}"
    several = len({speed.case.told for speed in speeds}) > 1
    lines = [f"{head}{'real time':>11}{'reference':>11}{'ceiling':>9}{'  told' * several}"]
    for speed in speeds:
        case, share = speed.case, speed.share_of_ceiling
        spread = (max(speed.rates) - min(speed.rates)) / 2 / speed.median
        cells = [
            f"{case.backend:10}{case.precision:>9}{case.threads:>8}{case.batch:>6}",
            f"{speed.median:>12,.0f}{f'±{spread:.0%}':>8}",
            f"{f'x {speed.median / sample_rate:.2f}':>11}",
            f"{f'x {speed.median / reference:.1f}':>11}",
            "" if share is None else f"{share:>9.2f}",
        ]
        lines.append("".join(cells) + (f"  {case.told}" if several else ""))
    return "\n".join([*lines, *_costs(speeds)])


def _costs(speeds: Sequence[Speed]) -> Iterator[str]:
    """Yield what it costs to be told something, from ratios within each round."""
    first = {replace(speed.case, told=""): speed for speed in reversed(speeds)}
    for speed in speeds:
        base = first[replace(speed.case, told="")]
        if speed is not base:
            ratios = [r / b for r, b in zip(speed.rates, base.rates, strict=True)]
            yield f"{speed.case.name}: {statistics.median(ratios):.3f} of {base.case.told}"
