"""SIGKILL at random moments and signals at every step: the resumed run has the same bits."""

import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.faults.processes import Forks
from tests.faults.runs import (
    STEPS,
    Reference,
    acknowledged,
    broken,
    differences,
    newest,
    start_or_resume,
    temporary,
    unequal,
)
from tests.faults.tally import Tally
from wavenet.training.checkpointing import checkpoint_step, find_checkpoints, read_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks and looks into /proc"),
]


def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(
    forks: Forks,
    reference: Reference,
    tmp_path: Path,
    full: bool,
    tally: Tally,
    chance: random.Random,
) -> None:
    wanted, number = 500 if full else 6, 0
    for what in (
        "kills",
        "finished runs",
        "differing tensors",
        "lost acknowledged checkpoints",
        "corrupt files",
    ):
        tally.add(what, 0)
    while tally.counts["kills"] < wanted:
        number += 1
        run, last_acknowledged, ended = tmp_path / f"run-{number}", 0, False
        while not ended:
            workers = f"trainer.num_workers={chance.choice([0, 2])}"
            child = start_or_resume(forks, reference, run, workers)
            if tally.counts["kills"] < wanted:
                time.sleep(chance.uniform(0, 1.1 * reference.seconds))
                child.signal(signal.SIGKILL)
            code = child.wait()
            assert code in (0, -signal.SIGKILL), child.output()
            ended = code == 0
            tally.add("kills", int(not ended))
            last_acknowledged = max(last_acknowledged, acknowledged(child.output()))
            tally.add("lost acknowledged checkpoints", int(newest(run) < last_acknowledged))
            tally.add("corrupt files", len(broken(run)))
        tally.add("finished runs")
        tally.add("differing tensors", len(differences(reference.run, run)))
        tally.show()
        assert temporary(run) == []
        shutil.rmtree(run)
    counts = tally.counts
    assert [
        counts[what]
        for what in ("differing tensors", "lost acknowledged checkpoints", "corrupt files")
    ] == [0, 0, 0]


def test_a_run_interrupted_at_any_step_resumes_to_the_same_bits(
    forks: Forks, reference: Reference, tmp_path: Path, full: bool, tally: Tally
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
            child = start_or_resume(
                forks, reference, run, f"trainer.num_workers={workers}", signal_at=moment
            )
            code = child.wait()
            assert code == (143 if step + again < STEPS else 0), child.output()
            if code:
                assert checkpoint_step(find_checkpoints(run)[-1]) == step + again + 1
        child = start_or_resume(forks, reference, run, f"trainer.num_workers={2 - workers}")
        assert child.wait() == 0, child.output()
        found += len(differences(reference.run, run))
    tally.add("interrupted runs", len(cases))
    tally.add("differing tensors", found)
    assert found == 0


def test_a_signal_before_the_first_update_stops_training(
    forks: Forks, reference: Reference, tmp_path: Path, tally: Tally
) -> None:
    run = tmp_path / "run"

    child = start_or_resume(forks, reference, run, "trainer.num_workers=2", signal_at=("loop", 0))
    assert child.wait() == 143, child.output()
    assert find_checkpoints(run) == []
    assert "stopped before the first step; resume with: " in child.output()
    assert start_or_resume(forks, reference, run, signal_at=("update", 6)).wait() == 143
    child = start_or_resume(forks, reference, run, signal_at=("loop", 0))
    assert child.wait() == 143, child.output()
    assert newest(run) == 7
    assert start_or_resume(forks, reference, run).wait() == 0

    found = differences(reference.run, run)
    tally.add("differing tensors", len(found))
    assert found == []


def test_an_interrupted_validation_is_run_when_resuming(
    forks: Forks, reference: Reference, tmp_path: Path, full: bool, tally: Tally
) -> None:
    windows = (1, 2, 3, 4, 5, 6, 7, 8) if full else (2, 8)
    found = 0
    for number in windows:
        run = tmp_path / f"run-{number}"
        child = start_or_resume(forks, reference, run, signal_at=("window", number))
        assert child.wait() == 143, child.output()
        child = start_or_resume(
            forks, reference, run, signal_at=("window", 1)
        )  # again, in the pending validation
        assert child.wait() == 143, child.output()
        child = start_or_resume(forks, reference, run)
        assert child.wait() == 0, child.output()
        assert [path.name for path in find_checkpoints(run)] == [
            path.name for path in find_checkpoints(reference.run)
        ]
        for mine, other in zip(find_checkpoints(run), find_checkpoints(reference.run), strict=True):
            found += len(unequal(read_checkpoint(mine), read_checkpoint(other), mine.name))
        found += len(differences(reference.run, run))
    tally.add("validations interrupted", 2 * len(windows))
    tally.add("differing tensors", found)
    assert found == 0
