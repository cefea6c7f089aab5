"""Processes to be killed, forked from a server that has imported everything.

The server runs this file as a script; it reads one order per line, and forks a child for each. With
`stop`, a child stops itself right before its work, so that a tracer can attach.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.commands import ROOT, environment
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
        self.code = int(self.forks.answer())
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
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.killpg(self.server.pid, signal.SIGKILL)  # a child that is left too
        self.server.communicate()

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
        order = {"work": work, "folder": str(folder), "words": words, "log": str(log), **how}
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        return Child(self, int(self.answer()), log)

    def answer(self) -> str:
        """Return the server's next line."""
        assert self.server.stdout is not None
        return self.server.stdout.readline()


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


def serve() -> None:
    """Fork a child for each order on stdin; say its number, then how it ended."""
    importlib.import_module("tests.preload")
    become_parent_of_orphans = 36  # PR_SET_CHILD_SUBREAPER of sys/prctl.h
    ctypes.CDLL(None).prctl(become_parent_of_orphans, 1)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(order)
        print(pid, flush=True)
        status = os.waitpid(pid, 0)[1]
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        print(os.waitstatus_to_exitcode(status), flush=True)


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


if __name__ == "__main__":
    serve()
