"""The order of the batches, and how training ends when a loader worker fails."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tests.forks import CommandProcess
from tests.training.small import run_config, single_process
from tests.waiting import wait_until
from wavenet.data.options import DataOptions, PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.training.data import load_training_data
from wavenet.training.distributed.launcher import Launch
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.loader import (
    ErrorsAsItems,
    SegmentLoader,
    build_loader,
    start_worker,
)
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


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_later_loader_continues_the_batches_pinned_for_a_gpu(
    recordings: Path, tmp_path: Path, num_workers: int
) -> None:
    folder = tmp_path / "prepared"
    prepare_clips(make_plan(recordings, folder, PrepareOptions(sample_rate=8000)))
    options = {"global_batch_size": 2, "segment_length": 100}
    config = run_config(**options)
    config = dataclasses.replace(
        config,
        audio=dataclasses.replace(config.audio, sample_rate=8000),
        data=DataOptions(sample_rate=8000, processed_dir=str(folder)),
    )
    data = load_training_data(config)
    for device, is_pinned in (("cpu", False), ("cuda", True)):
        group = ProcessGroup(Launch(), torch.device(device))
        assert build_loader(data, config, step=0, group=group).loader.pin_memory is is_pinned

    def batches(step: int, count: int, workers: int) -> list[torch.Tensor]:
        trainer = dataclasses.replace(config.trainer, num_workers=workers)
        changed = dataclasses.replace(config, trainer=trainer)
        loader = build_loader(data, changed, step=step, group=single_process())
        with loader.raise_on_lost_worker():
            return [batch["waveform"] for batch in islice(loader, count)]

    all_batches = batches(0, 8, 0)
    before = torch.get_rng_state()
    rest = batches(5, 3, num_workers)

    assert all(torch.equal(one, other) for one, other in zip(all_batches[5:], rest, strict=True))
    assert torch.equal(torch.get_rng_state(), before), "the loader used the model's random numbers"


class Numbers(Dataset[Any]):
    """Batches that hold their number; at `bad` something else happens."""

    def __init__(self, bad: int, event: str) -> None:
        self.bad = bad
        self.event = event

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        if step == self.bad and self.event == "error":
            raise DataError("clip.wav: cut short")
        if step == self.bad and self.event == "leave":
            os._exit(7)
        if step == self.bad and self.event == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if step == self.bad and self.event == "signals":
            for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
                os.kill(os.getpid(), getattr(signal, name))
        return {"number": torch.tensor(step)}


def batches(bad: int, event: str, workers: int = 2, batch_timeout: int = 120) -> SegmentLoader:
    loader = DataLoader(
        ErrorsAsItems(Numbers(bad, event)),
        batch_size=None,
        sampler=itertools.count(),
        num_workers=workers,
        worker_init_fn=start_worker,
        timeout=1 if workers else 0,
    )
    return SegmentLoader(loader, batch_timeout=batch_timeout)


def raise_anywhere(number: int, frame: FrameType | None) -> None:
    """As the handler that torch leaves with the first loader of a process."""
    raise RuntimeError("DataLoader worker is killed")


def numbers(loader: SegmentLoader, count: int) -> list[int]:
    with loader.raise_on_lost_worker():
        return [int(batch["number"]) for batch in islice(loader, count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_raised_as_it_is(workers: int) -> None:
    loader = batches(3, "error", workers)
    seen: list[int] = []

    with pytest.raises(DataError, match=r"^clip\.wav: cut short$"), loader.raise_on_lost_worker():
        seen.extend(int(batch["number"]) for batch in loader)

    assert seen == [0, 1, 2]
    assert not any(worker.is_alive() for worker in loader.workers)


def test_a_worker_that_exits_is_reported_with_its_code() -> None:
    with pytest.raises(MachineError, match=r"with code 7.*trainer\.num_workers=0"):
        numbers(batches(3, "leave"), 9)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("error", [EOFError, ConnectionResetError])
def test_a_batch_that_a_killed_worker_was_handing_over_is_its_error(
    error: type[Exception],
) -> None:
    loader = batches(1000, "none")
    source = iter(loader)

    with pytest.raises(MachineError, match="was killed by SIGKILL"), loader.raise_on_lost_worker():
        next(source)
        loader.workers[0].kill()
        raise error


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError])
def test_such_an_error_without_a_dead_worker_is_raised_as_it_is(error: type[Exception]) -> None:
    loader = batches(1000, "none")
    source = iter(loader)

    with pytest.raises(error), loader.raise_on_lost_worker():
        next(source)
        raise error


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGCHLD")
@pytest.mark.parametrize("before", [signal.SIG_DFL, raise_anywhere])
def test_a_lost_worker_raises_where_a_batch_is_asked_for_and_nowhere_else(before: Any) -> None:
    loader = batches(1000, "none")
    source = iter(loader)
    found = signal.signal(signal.SIGCHLD, before)

    with pytest.raises(MachineError, match="was killed by SIGKILL"), loader.raise_on_lost_worker():
        next(source)
        handler = signal.getsignal(signal.SIGCHLD)
        loader.workers[0].kill()
        loader.workers[0].join()
        for _ in range(100):
            next(source)
    after = signal.signal(signal.SIGCHLD, found)

    assert handler == signal.SIG_DFL
    assert after == before


@pytest.mark.slow
def test_a_worker_that_hangs_is_reported_and_killed() -> None:
    loader = batches(3, "stop", batch_timeout=2)

    with pytest.raises(MachineError, match="returned a batch in 2 seconds"):
        numbers(loader, 9)

    assert not any(worker.is_alive() for worker in loader.workers)


def test_workers_leave_signals_to_the_training_process() -> None:
    loader = batches(3, "signals")

    assert numbers(loader, 9) == list(range(9))


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that are alive."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def started(recordings: Path, folder: Path) -> CommandProcess:
    """A training run in its own process group that has written a checkpoint."""
    process = CommandProcess(folder, "train", *TRAIN, f"data.root={recordings}", own_session=True)
    wait_until(
        lambda: not process.is_alive() or any((folder / "run").glob("checkpoints/*.ckpt")),
        "training wrote no checkpoint",
    )
    return process


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_worker_that_is_killed_ends_the_run_with_exit_5(recordings: Path, tmp_path: Path) -> None:
    process = started(recordings, tmp_path)
    victim = children(process.pid)[1]

    os.kill(victim, signal.SIGKILL)
    done = process.wait()

    assert done.returncode == 5, done.stderr
    assert f"MachineError: loader worker {victim} was killed by SIGKILL" in done.stderr
    assert "trainer.num_workers=0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_clip_truncated_during_a_run_ends_it_with_exit_3(
    recordings: Path, tmp_path: Path
) -> None:
    process = started(recordings, tmp_path)

    for clip in tmp_path.rglob("*.wav"):
        os.truncate(clip, 1000)
    done = process.wait()

    assert done.returncode == 3, done.stderr
    assert "DataError: " in done.stderr
    assert "run wavenet-prepare again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_signal_to_the_whole_group_saves_and_ends_all_workers(
    recordings: Path, tmp_path: Path
) -> None:
    process = started(recordings, tmp_path)
    workers = children(process.pid)

    os.killpg(process.pid, signal.SIGINT)
    done = process.wait()

    assert done.returncode == 130, done.stderr
    assert "wavenet-train resume=run" in done.stdout
    assert "Traceback" not in done.stderr
    assert len(workers) == 2
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


ORPHAN = """
import multiprocessing, os, signal, time
from wavenet.training.loader import start_worker

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
def test_a_worker_whose_parent_was_killed_before_it_started_ends() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, timeout=600)

    assert done.returncode == -signal.SIGKILL
    assert not done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_workers_exit_when_the_training_process_is_killed(recordings: Path, tmp_path: Path) -> None:
    process = started(recordings, tmp_path)
    workers = children(process.pid)
    os.kill(workers[0], signal.SIGSTOP)  # as one that hangs and cannot look around

    process.signal(signal.SIGKILL)
    process.wait()

    wait_until(
        lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers),
        "workers outlive the training process",
    )
