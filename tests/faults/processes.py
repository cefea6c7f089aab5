"""Processes to be killed, forked from a server that has imported everything.

The server gets one order after another, and forks a child for each. With `stop`, a child stops
itself right before its work, so that a tracer can attach.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.commands import ROOT, environment
from tests.forks import SERVER
from tests.waiting import wait_until


class Child:
    """A forked process.

    Attributes:
        pid: Its number.
        log: File of its output.
        code: Its exit code, or minus the signal that ended it; once it has ended.
    """

    def __init__(self, forks: "Forks", pid: int, log: Path) -> None:
        self.forks = forks
        self.pid = pid
        self.log = log
        self.code = 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the child has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def state(self) -> str:
        """Return the kernel's letter for its state: `T` for stopped, `Z` for ended."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except FileNotFoundError:
            return "Z"
        return text.rpartition(")")[2].split()[0]

    def wait(self) -> int:
        """Wait for it and all that it started; return the exit code, or minus a signal."""
        self.code = self.forks.answer()
        return self.code

    def output(self) -> str:
        """Return its output so far."""
        with contextlib.suppress(FileNotFoundError):  # not opened yet
            return self.log.read_text(encoding="utf-8", errors="replace")
        return ""


class Forks:
    """The server; a context manager. One child at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def __enter__(self) -> "Forks":
        self.connection, its_end = SERVER.Pipe()
        self.server = SERVER.Process(target=serve, args=(its_end,))
        self.server.start()
        its_end.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.server.pid is not None
        os.killpg(self.server.pid, signal.SIGKILL)  # a child that is left too
        self.server.join()

    def start(self, work: str, folder: Path, *words: str, **how: Any) -> Child:
        """Fork a child.

        Args:
            work: `train`, `save` or `export`.
            folder: Its current folder.
            words: Arguments of its command line.
            how: `stop=True` to stop before the work; `signal_at=[what, n]` for a SIGTERM to itself
                at the start of `update` n, of `window` n of the process's validations, or of the
                training `loop`.
        """
        self.count += 1
        log = self.folder / f"{self.count}.log"
        order = {"work": work, "folder": folder, "words": words, "log": log, **how}
        self.connection.send(order)
        return Child(self, self.answer(), log)

    def answer(self) -> int:
        """Return the server's next number."""
        number: int = self.connection.recv()
        return number


@contextlib.contextmanager
def traced(child: Child, *options: str) -> Iterator[Path]:
    """Put strace on a child that has stopped itself, and let it go on; yield the trace's path."""
    wait_until(lambda: child.state() == "T", "the child did not stop itself")
    trace = child.log.with_suffix(".trace")
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", str(trace), *options, "-p", str(child.pid)]
    )
    status = Path(f"/proc/{child.pid}/status")
    wait_until(
        lambda: strace.poll() is not None or "TracerPid:\t0\n" not in status.read_text(),
        "strace did not attach",
    )
    assert strace.poll() is None, "strace cannot trace here"
    child.signal(signal.SIGCONT)
    yield trace
    strace.wait()


def serve(orders: "Connection[Any, Any]") -> None:
    """Fork a child for each order; send its number, then how it ended."""
    multiprocessing.set_start_method(None, force=True)  # as in a process that a user starts
    os.setsid()
    os.chdir(ROOT)
    os.environ.update(environment())
    become_parent_of_orphans = 36  # PR_SET_CHILD_SUBREAPER of sys/prctl.h
    ctypes.CDLL(None).prctl(become_parent_of_orphans, 1)
    while True:
        order = orders.recv()
        pid = os.fork()
        if pid == 0:
            _child(order)
        orders.send(pid)
        status = os.waitpid(pid, 0)[1]
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        orders.send(os.waitstatus_to_exitcode(status))


def _child(order: dict[str, Any]) -> None:
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(order["folder"])
        if "signal_at" in order:
            _arrange_signal(*order["signal_at"])
        work = {"train": _train, "save": _save, "export": _export}[order["work"]]
        work(order)
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:  # noqa: BLE001 - shown, and the child ends
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def _train(order: dict[str, Any]) -> None:
    from wavenet.cli.main import train

    sys.argv = ["wavenet-train", *order["words"]]
    train()


def _save(order: dict[str, Any]) -> None:
    """Write a checkpoint next to an older one, and leave a symlink as the acknowledgement."""
    import torch

    from wavenet.training.checkpointing import write_checkpoint
    from wavenet.utils.errors import MachineError

    def contents(step: int) -> dict[str, Any]:
        return {"step": step, "weights": torch.full((3000,), float(step))}

    if order.get("first", True):
        write_checkpoint(contents(1), Path("checkpoints/step-00000001.ckpt"))
    _stop(order)
    try:
        write_checkpoint(contents(2), Path("checkpoints/step-00000002.ckpt"))
    except MachineError as fault:
        _leave(fault)
    Path("acknowledged").symlink_to("2")


def _export(order: dict[str, Any]) -> None:
    """Export a model over an older one, and leave a symlink as the acknowledgement."""
    from wavenet import checkpoint
    from wavenet.config import AudioConfig, WaveNetConfig
    from wavenet.model import WaveNet
    from wavenet.utils.errors import MachineError

    config = WaveNetConfig(
        quantization_channels=16,
        dilations=(1, 2),
        residual_channels=4,
        gate_channels=4,
        skip_channels=8,
    )
    model = WaveNet(config)
    checkpoint.save(model, "model", AudioConfig(), checkpoint.TrainingInfo(steps=1))
    _stop(order)
    try:
        checkpoint.save(model, "model", AudioConfig(), checkpoint.TrainingInfo(steps=2))
    except MachineError as fault:
        _leave(fault)
    Path("acknowledged").symlink_to("2")


def _stop(order: dict[str, Any]) -> None:
    if order.get("stop"):
        os.kill(os.getpid(), signal.SIGSTOP)


def _leave(fault: Exception) -> None:
    sys.stderr.write(f"{type(fault).__name__}: {fault}\n")
    sys.exit(5)


def _arrange_signal(what: str, n: int) -> None:
    """Send this process a SIGTERM at one moment of training."""
    from wavenet.data.dataset import SequentialSegments
    from wavenet.training.loop import TrainingLoop

    count = 0
    update, read, run = TrainingLoop.update, SequentialSegments.__getitem__, TrainingLoop.run

    def signal_at_update(self: TrainingLoop, *args: Any) -> None:
        if what == "update" and self.state.step == n:
            os.kill(os.getpid(), signal.SIGTERM)
        update(self, *args)

    def signal_at_window(self: SequentialSegments, index: int) -> Any:
        nonlocal count
        count += 1
        if what == "window" and count == n:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, index)

    def signal_at_start(self: TrainingLoop) -> None:
        if what == "loop":
            os.kill(os.getpid(), signal.SIGTERM)
        run(self)

    for owner, name, hook in (
        (TrainingLoop, "update", signal_at_update),
        (SequentialSegments, "__getitem__", signal_at_window),
        (TrainingLoop, "run", signal_at_start),
    ):
        setattr(owner, name, hook)
