"""Processes to be killed: forked from one that has imported everything, which takes seconds.

The server below runs as a script; it reads orders, one a line, and forks a child for each. A child
that is told to `stop` stops itself right before its work, so that a tracer can be put on it.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.commands import ROOT, environment

IMPORTED = (
    "pytorch_lightning",
    "torch.utils.tensorboard",
    "recipes.train",
    "wavenet.cli.main",
    "wavenet.training.run",
)


class Child:
    """A forked process.

    Attributes:
        pid: Its number.
        log: Where its words go.
        code: Its exit code, or minus the signal that ended it; once it has ended.
    """

    def __init__(self, forks: "Forks", pid: int, log: Path) -> None:
        self.forks = forks
        self.pid = pid
        self.log = log
        self.code = 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; to nobody where the child has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def state(self) -> str:
        """Return the kernel's letter for what it does: `T` for stopped, `Z` for ended."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except FileNotFoundError:
            return "Z"
        return text.rpartition(")")[2].split()[0]

    def wait(self) -> int:
        """Return the exit code when it and all that it started have ended, or minus a signal."""
        self.code = int(self.forks.answer())
        return self.code

    def said(self) -> str:
        """Return its words so far."""
        with contextlib.suppress(FileNotFoundError):  # it has not come to opening it
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
            folder: Where it works.
            words: Of its command line.
            how: `stop=True` to stop before the work; `signal_at=[what, n]` for a SIGTERM to itself
                at the start of update `n`, of window `n` of the process's validations, or of
                Lightning's `fit`.
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
    while child.state() != "T":
        time.sleep(0.002)
    trace = child.log.with_suffix(".trace")
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", str(trace), *options, "-p", str(child.pid)]
    )
    while "TracerPid:\t0\n" in Path(f"/proc/{child.pid}/status").read_text():
        assert strace.poll() is None, "strace cannot trace here"
        time.sleep(0.002)
    child.signal(signal.SIGCONT)
    yield trace
    strace.wait()


def serve() -> None:
    """Fork a child for each order on stdin; say its number, then how it ended."""
    import torch

    torch.set_num_threads(1)
    for name in IMPORTED:
        importlib.import_module(name)
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
    """Make a save beside an older one, and say so."""
    import torch

    from wavenet.training.checkpointing import DurableCheckpointIO
    from wavenet.utils.errors import MachineError

    def contents(step: int) -> dict[str, Any]:
        return {"step": step, "weights": torch.full((3000,), float(step))}

    files = DurableCheckpointIO()
    if order.get("first", True):
        files.save_checkpoint(contents(1), "checkpoints/step-00000001.ckpt")
    _stop(order)
    try:
        files.save_checkpoint(contents(2), "checkpoints/step-00000002.ckpt")
    except MachineError as fault:
        _leave(fault)
    Path("acknowledged").symlink_to("2")


def _export(order: dict[str, Any]) -> None:
    """Export a model over an older one, and say so."""
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
    import pytorch_lightning as pl

    from wavenet.data.dataset import Windows
    from wavenet.training.module import TrainingModule

    seen, sent = 0, False
    trained, read, fitted = TrainingModule.training_step, Windows.__getitem__, pl.Trainer.fit

    def training_step(self: TrainingModule, *args: Any) -> Any:
        nonlocal sent
        if what == "update" and self.global_step == n and not sent:
            sent = True  # a second one would end it at once
            os.kill(os.getpid(), signal.SIGTERM)
        return trained(self, *args)

    def window(self: Windows, index: int) -> Any:
        nonlocal seen
        seen += 1
        if what == "window" and seen == n:
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, index)

    def fit(self: pl.Trainer, *args: Any, **words: Any) -> None:
        if what == "fit":
            os.kill(os.getpid(), signal.SIGTERM)
        fitted(self, *args, **words)

    for owner, name, hook in (
        (TrainingModule, "training_step", training_step),
        (Windows, "__getitem__", window),
        (pl.Trainer, "fit", fit),
    ):
        setattr(owner, name, hook)


if __name__ == "__main__":
    serve()
