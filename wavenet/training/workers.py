"""Processes that read audio: whatever becomes of one, training ends soon and says why, once.

An error of theirs comes as the item and is raised by the training process. They leave signals to
that process, and end with it.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wavenet.training.module import Batch
from wavenet.training.signals import SIGNALS
from wavenet.utils.errors import MachineError, WavenetError

PATIENCE = 120  # seconds for one batch
WAY_OUT = (
    "the run can go on from its last save; trainer.num_workers=0 reads in the training process"
)


class Told(Dataset[Batch | WavenetError]):
    """Batches of another data set, or the error that one raises."""

    def __init__(self, batches: Dataset[Batch]) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | WavenetError:
        try:
            return self.batches[step]
        except WavenetError as error:
            return error


def start_worker(number: int) -> None:
    """Make a worker of a process that was just started."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)  # Ctrl-C in a terminal goes to all of its processes
    if sys.platform == "linux":
        die_with_parent = 1  # PR_SET_PDEATHSIG of sys/prctl.h
        ctypes.CDLL(None).prctl(die_with_parent, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        started_by_it = multiprocessing.get_start_method() != "forkserver"
        if parent is not None and started_by_it and os.getppid() != parent.pid:
            os._exit(1)  # it died before it was to be said


class Batches:
    """The batches of a loader of `Told` ones, as long as its workers do what they should.

    Args:
        loader: With a timeout of one second, if it has workers.
        patience: Seconds in which a batch must come.

    Attributes:
        waited: Seconds that training has waited for batches.
    """

    def __init__(self, loader: DataLoader[Any], patience: int = PATIENCE) -> None:
        self.loader = loader
        self.patience = patience
        self.workers: list[Any] = []
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        source = iter(self.loader)
        self.workers = list(getattr(source, "_workers", []))
        while True:
            started = time.monotonic()
            item = self._next(source)
            self.waited += time.monotonic() - started
            if isinstance(item, WavenetError):
                raise item
            yield item

    def _next(self, source: Iterator[Any]) -> dict[str, Tensor] | WavenetError:
        for _ in range(self.patience):
            with _no_batch_yet():
                item: dict[str, Tensor] | WavenetError = next(source)
                return item
        raise MachineError(
            f"no process that reads audio brought a batch in {self.patience} seconds: is the disk "
            f"or the network under the data at fault? {WAY_OUT}"
        )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Tell within the block what a worker died of, and leave none behind.

        Raises:
            MachineError: A worker died.
        """
        try:
            yield
        except (RuntimeError, ConnectionError) as error:
            if not of_a_worker(error) and not (isinstance(error, ConnectionError) and self._died()):
                raise
            raise MachineError(f"{self._what_died()}: {WAY_OUT}") from error
        finally:
            self._kill()

    def _died(self) -> bool:
        """Whether a worker ended, or does within a second."""
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            if any(worker.exitcode for worker in self.workers):
                return True
            time.sleep(0.01)
        return False

    def _what_died(self) -> str:
        codes = {worker.pid: worker.exitcode for worker in self.workers}
        for pid, code in codes.items():
            if code is not None and code < 0:
                return (
                    f"process {pid}, which read audio, was killed by {signal.Signals(-code).name}"
                )
        dead = [f"{pid} with code {code}" for pid, code in codes.items() if code]
        return f"process {', '.join(dead)}, which read audio, ended"

    def _kill(self) -> None:
        """End workers that may hang: torch would wait for them."""
        if not self.workers:
            return
        with _deaf_to_children():
            for worker in self.workers:
                worker.kill()
                worker.join()


def of_a_worker(error: Exception) -> bool:
    """Whether an error, wherever it is raised, is torch's news of a worker that died."""
    return isinstance(error, RuntimeError) and "DataLoader worker" in str(error)


@contextlib.contextmanager
def _no_batch_yet() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "timed out" not in str(error):
            raise


@contextlib.contextmanager
def _deaf_to_children() -> Iterator[None]:
    """Keep torch from raising within the block for a worker that ends."""
    number = getattr(signal, "SIGCHLD", None)
    if number is None:  # Windows
        yield
        return
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)
