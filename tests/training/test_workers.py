"""What becomes of training when a process that reads audio fails."""

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tests.commands import command_line, environment
from wavenet.training.data import StepsFrom
from wavenet.training.workers import Batches, Told, start_worker
from wavenet.utils.errors import DataError, MachineError

TRAIN = (
    "recipe=folder",
    "model=tiny",
    "audio.sample_rate=8000",
    "trainer.max_steps=1000000",
    "trainer.global_batch_size=2",
    "trainer.segment_length=200",
    "trainer.save_every_n_steps=50",
    "trainer.preview_seconds=0",
    "trainer.num_workers=2",
    "evaluation.sample_seconds=0",
    "run_dir=run",
)


class Numbers(Dataset[Any]):
    """Batches that hold their number; at `bad` it is another story."""

    def __init__(self, bad: int, story: str) -> None:
        self.bad = bad
        self.story = story

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        if step == self.bad and self.story == "error":
            raise DataError("clip.wav: cut short")
        if step == self.bad and self.story == "leave":
            os._exit(7)
        if step == self.bad and self.story == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if step == self.bad and self.story == "signals":
            for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
                os.kill(os.getpid(), getattr(signal, name))
        return {"number": torch.tensor(step)}


def batches(bad: int, story: str, workers: int = 2) -> Batches:
    loader = DataLoader(
        Told(Numbers(bad, story)),
        batch_size=None,
        sampler=StepsFrom(0),
        num_workers=workers,
        worker_init_fn=start_worker,
        timeout=1 if workers else 0,
    )
    return Batches(loader, patience=2)


def numbers(loader: Batches, count: int) -> list[int]:
    with loader.watched():
        return [int(batch["number"]) for batch in islice(loader, count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_raised_as_it_is(workers: int) -> None:
    loader = batches(3, "error", workers)
    seen: list[int] = []

    with pytest.raises(DataError, match=r"^clip\.wav: cut short$"), loader.watched():
        seen.extend(int(batch["number"]) for batch in loader)

    assert seen == [0, 1, 2]
    assert not any(worker.is_alive() for worker in loader.workers)


def test_a_worker_that_ends_by_itself_is_told_with_its_code() -> None:
    with pytest.raises(MachineError, match=r"with code 7.*trainer\.num_workers=0"):
        numbers(batches(3, "leave"), 9)


@pytest.mark.slow
def test_a_worker_that_hangs_is_told_and_killed() -> None:
    loader = batches(3, "stop")

    with pytest.raises(MachineError, match="brought a batch in 2 seconds"):
        numbers(loader, 9)

    assert not any(worker.is_alive() for worker in loader.workers)


def test_workers_leave_signals_to_the_training_process() -> None:
    loader = batches(3, "signals")

    assert numbers(loader, 9) == list(range(9))


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that are alive."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def started(recordings: Path, folder: Path) -> "subprocess.Popen[str]":
    """A training run in a group of its own that has made a save, its workers at work."""
    process = subprocess.Popen(
        command_line("train", *TRAIN, f"data.root={recordings}"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list((folder / "run").glob("checkpoints/*.ckpt")):
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_worker_that_is_killed_ends_the_run_with_exit_5(recordings: Path, tmp_path: Path) -> None:
    process = started(recordings, tmp_path)
    victim = children(process.pid)[1]

    os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=120)

    assert process.returncode == 5, err
    assert f"MachineError: process {victim}, which read audio, was killed by SIGKILL" in err
    assert "trainer.num_workers=0" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_clip_that_is_cut_in_mid_run_ends_it_with_exit_3(
    recordings: Path, tmp_path: Path
) -> None:
    process = started(recordings, tmp_path)

    for clip in tmp_path.rglob("*.wav"):
        os.truncate(clip, 1000)
    _, err = process.communicate(timeout=120)

    assert process.returncode == 3, err
    assert "DataError: " in err
    assert "run wavenet-prepare anew" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_signal_to_the_whole_group_saves_and_leaves_nobody_behind(
    recordings: Path, tmp_path: Path
) -> None:
    process = started(recordings, tmp_path)
    workers = children(process.pid)

    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)

    assert process.returncode == 130, err
    assert "wavenet-train resume=run" in out
    assert "Traceback" not in err
    assert len(workers) == 2
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


ORPHAN = """
import multiprocessing, os, signal, time
from wavenet.training.workers import start_worker

def work(parent):
    while os.getppid() == parent:
        time.sleep(0.01)
    start_worker(0)
    print("alive", flush=True)

multiprocessing.set_start_method("fork")
multiprocessing.Process(target=work, args=(os.getpid(),)).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_worker_whose_training_process_was_killed_before_it_began_ends() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, timeout=60)

    assert done.returncode == -signal.SIGKILL
    assert not done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_workers_end_when_the_training_process_is_killed(recordings: Path, tmp_path: Path) -> None:
    process = started(recordings, tmp_path)
    workers = children(process.pid)
    os.kill(workers[0], signal.SIGSTOP)  # as one that hangs and cannot look around

    process.kill()
    process.communicate(timeout=60)

    until = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)
