"""SIGKILL at random moments of training, and signals at every step: resumed, it is the same run."""

import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.faults.processes import Forks
from tests.faults.runs import (
    STEPS,
    Whole,
    acknowledged,
    broken,
    differences,
    go_on,
    newest,
    temporary,
    unequal,
)
from tests.faults.tally import Tally
from wavenet.training.checkpointing import find_saves, read_save, step_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks and looks into /proc"),
]


def test_a_run_that_is_killed_at_any_moment_goes_on_to_the_same_bits(
    forks: Forks, whole: Whole, tmp_path: Path, full: bool, tally: Tally, chance: random.Random
) -> None:
    kills, wanted, number, bits = 0, 100 if full else 10, 0, 0
    lost = corrupt = 0
    while kills < wanted:
        number += 1
        run, told, ended = tmp_path / f"run-{number}", 0, False
        while not ended:
            workers = f"trainer.num_workers={chance.choice([0, 2])}"
            child = go_on(forks, whole, run, workers)
            if kills < wanted:
                time.sleep(chance.uniform(0, 1.1 * whole.seconds))
                child.signal(signal.SIGKILL)
            code = child.wait()
            assert code in (0, -signal.SIGKILL), child.said()
            ended = code == 0
            kills += not ended
            told = max(told, acknowledged(child.said()))
            lost += newest(run) < told
            corrupt += len(broken(run))
        bits += len(differences(whole.run, run))
        assert temporary(run) == []
    for what, count in {
        "kills": kills,
        "finished runs": number,
        "differing tensors": bits,
        "lost acknowledged saves": lost,
        "corrupt files": corrupt,
    }.items():
        tally.add(what, count)
    assert (bits, lost, corrupt) == (0, 0, 0)


def test_a_run_that_is_interrupted_at_any_step_goes_on_to_the_same_bits(
    forks: Forks, whole: Whole, tmp_path: Path, full: bool, tally: Tally
) -> None:
    cases = [
        (step, workers, times)
        for step in range(STEPS + 1)
        for workers in (0, 2)
        for times in (1, 2)
        if full or (step, workers, times) in {(0, 0, 1), (9, 2, 2), (19, 0, 1)}
    ]
    found = 0
    for step, workers, times in cases:
        run = tmp_path / f"run-{step}-{workers}-{times}"
        for again in range(times):
            # Update 20 is never begun: that run ends by itself
            moment = ("update", step + again)
            child = go_on(forks, whole, run, f"trainer.num_workers={workers}", signal_at=moment)
            code = child.wait()
            assert code == (143 if step + again < STEPS else 0), child.said()
            if code:
                assert step_of(find_saves(run)[-1]) == step + again + 1
        child = go_on(forks, whole, run, f"trainer.num_workers={2 - workers}")
        assert child.wait() == 0, child.said()
        found += len(differences(whole.run, run))
    tally.add("interrupted runs", len(cases))
    tally.add("differing tensors", found)
    assert found == 0


def test_a_signal_before_the_first_update_is_taken(
    forks: Forks, whole: Whole, tmp_path: Path, tally: Tally
) -> None:
    run = tmp_path / "run"

    child = go_on(forks, whole, run, "trainer.num_workers=2", signal_at=("fit", 0))
    assert child.wait() == 143, child.said()
    assert find_saves(run) == []
    assert go_on(forks, whole, run, signal_at=("update", 6)).wait() == 143
    child = go_on(forks, whole, run, signal_at=("fit", 0))
    assert child.wait() == 143, child.said()
    assert newest(run) == 7
    assert go_on(forks, whole, run).wait() == 0

    found = differences(whole.run, run)
    tally.add("differing tensors", len(found))
    assert found == []


def test_a_validation_that_is_left_is_made_up_for(
    forks: Forks, whole: Whole, tmp_path: Path, full: bool, tally: Tally
) -> None:
    windows = (1, 2, 3, 4, 5, 6, 7, 8) if full else (2, 8)
    found = 0
    for number in windows:
        run = tmp_path / f"run-{number}"
        child = go_on(forks, whole, run, signal_at=("window", number))
        assert child.wait() == 143, child.said()
        child = go_on(forks, whole, run, signal_at=("window", 1))  # once more, while it makes up
        assert child.wait() == 143, child.said()
        child = go_on(forks, whole, run)
        assert child.wait() == 0, child.said()
        assert [path.name for path in find_saves(run)] == [
            path.name for path in find_saves(whole.run)
        ]
        for mine, other in zip(find_saves(run), find_saves(whole.run), strict=True):
            found += len(unequal(read_save(mine), read_save(other), mine.name))
        found += len(differences(whole.run, run))
    tally.add("validations left", 2 * len(windows))
    tally.add("differing tensors", found)
    assert found == 0
