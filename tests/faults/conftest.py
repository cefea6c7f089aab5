"""Fixtures of the fault tests: processes that start fast, and counts shown at the end."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.processes import Forks
from tests.faults.runs import Reference, reference_run
from tests.faults.tally import Tally

COUNTS = pytest.StashKey[list[str]]()


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether all faults are to be tried, or a tenth of them."""
    return bool(request.config.getoption("full"))


@pytest.fixture
def tally(request: pytest.FixtureRequest, full: bool) -> Iterator[Tally]:
    """Return counts that are shown when all tests are done."""
    counts = Tally(request.node.name, full=full)
    yield counts
    request.config.stash.setdefault(COUNTS, []).append(str(counts))


@pytest.fixture
def chance(full: bool, tally: Tally) -> random.Random:
    """Return random numbers: the same ones in the suite, fresh ones with `--full`; shown."""
    seed = random.SystemRandom().randrange(10**6) if full else 0
    tally.add("seed", seed)
    return random.Random(seed)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Return the server of processes that have imported everything."""
    with Forks(tmp_path_factory.mktemp("forks")) as started:
        yield started


@pytest.fixture(scope="session")
def reference(
    forks: Forks, recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Reference:
    """Return a run that nothing interrupts."""
    return reference_run(forks, recordings, tmp_path_factory.mktemp("reference"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the counts."""
    lines = terminalreporter.config.stash.get(COUNTS, [])
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.write_line(line)
