"""The training loader: its order, its workers, and how a worker's failure ends training.

The order is a pure function of seed, step and rank: it has no state. Whatever happens to a worker,
training ends soon and reports why, once. An error in a worker is sent as the item, and raised by
the training process. Workers leave signals to that process, and end with it.
"""

import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wavenet.data.dataset import RandomSegments
from wavenet.training.data import TrainingData
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.options import RunConfig
from wavenet.training.signals import SIGNALS
from wavenet.utils.errors import MachineError, WavenetError

Batch = dict[str, Tensor]
BATCH_TIMEOUT_SECONDS = 120
POLL_SECONDS = 1  # how often a loader that waits for a batch checks its workers
CUT_OFF = (ConnectionError, EOFError)  # a worker that dies may be handing over a batch
ADVICE = (
    "the run can be resumed from its last checkpoint; trainer.num_workers=0 reads in the training "
    "process"
)


def build_loader(
    data: TrainingData, config: RunConfig, *, step: int, group: ProcessGroup
) -> "SegmentLoader":
    """Return an endless loader of this process's batches, from the update after `step` on."""
    options = config.trainer
    segments = RandomSegments(
        data.reader,
        data.train,
        segment_length=options.segment_length,
        context=config.model.receptive_field,
        batch_size=options.global_batch_size,
        seed=config.seed,
        rank=group.rank,
        world_size=group.size,
        accumulate_grad_batches=options.accumulate_grad_batches,
        balance_speakers=options.balance_speakers,
    )
    loader = DataLoader(
        ErrorsAsItems(segments),
        batch_size=None,
        sampler=itertools.count(step * options.accumulate_grad_batches),
        num_workers=options.num_workers,
        worker_init_fn=start_worker,
        timeout=POLL_SECONDS if options.num_workers else 0,
        generator=torch.Generator(),  # the default one belongs to the model
        pin_memory=group.device.type == "cuda",  # so that a GPU fetches a batch while it computes
    )
    return SegmentLoader(loader)


class ErrorsAsItems(Dataset[Batch | WavenetError]):
    """The batches of another dataset; an error of this package is returned, not raised."""

    def __init__(self, batches: Dataset[Batch]) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch | WavenetError:
        try:
            return self.batches[step]
        except WavenetError as error:
            return error


def start_worker(number: int) -> None:
    """Ignore signals, and end with the training process; the loader's `worker_init_fn`."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all of its processes
    if sys.platform == "linux":
        die_with_parent = 1  # PR_SET_PDEATHSIG of sys/prctl.h
        ctypes.CDLL(None).prctl(die_with_parent, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        child_of_parent = multiprocessing.get_start_method() != "forkserver"
        if parent is not None and child_of_parent and os.getppid() != parent.pid:
            os._exit(1)  # the parent died before the call above


class SegmentLoader:
    """The batches of a `DataLoader` over `ErrorsAsItems`; its workers are watched.

    Args:
        loader: With a timeout of `POLL_SECONDS`, if it has workers.
        batch_timeout: Seconds within which a batch must come.

    Attributes:
        waited_seconds: How long training has waited for batches.
    """

    def __init__(self, loader: DataLoader[Any], batch_timeout: int = BATCH_TIMEOUT_SECONDS) -> None:
        self.loader = loader
        self.batch_timeout = batch_timeout
        self.workers: list[Any] = []
        self.waited_seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        with _default_sigchld():  # the first such iterator of a process leaves torch's handler
            source = iter(self.loader)
        self.workers = list(getattr(source, "_workers", []))
        while True:
            started = time.monotonic()
            item = self._next(source)
            self.waited_seconds += time.monotonic() - started
            if isinstance(item, WavenetError):
                raise item
            yield item

    def _next(self, source: Iterator[Any]) -> Batch | WavenetError:
        for _ in range(0, self.batch_timeout, POLL_SECONDS):
            with _suppress_timeout():
                item: Batch | WavenetError = next(source)
                return item
        raise MachineError(
            f"no loader worker returned a batch in {self.batch_timeout} seconds: check the disk or "
            f"the network that holds the data; {ADVICE}"
        )

    @contextlib.contextmanager
    def raise_on_lost_worker(self) -> Iterator[None]:
        """Report within the block what a worker died of, and end all workers after it.

        Raises:
            MachineError: A worker died.
        """
        with _default_sigchld():
            try:
                yield
            except (RuntimeError, *CUT_OFF) as error:
                if not self._is_caused_by_a_worker(error):
                    raise
                raise MachineError(f"{self._describe_dead_workers()}: {ADVICE}") from error
            finally:
                self._kill_workers()

    def _is_caused_by_a_worker(self, error: Exception) -> bool:
        """Return whether an error comes from a worker that ended, or ends within a second."""
        if not isinstance(error, CUT_OFF):
            return "DataLoader worker" in str(error)  # torch's report
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            if any(worker.exitcode for worker in self.workers):
                return True
            time.sleep(0.01)
        return False

    def _describe_dead_workers(self) -> str:
        codes = {worker.pid: worker.exitcode for worker in self.workers}
        for pid, code in codes.items():
            if code is not None and code < 0:
                return f"loader worker {pid} was killed by {signal.Signals(-code).name}"
        dead = [f"{pid} with code {code}" for pid, code in codes.items() if code]
        return f"loader worker {', '.join(dead)} ended"

    def _kill_workers(self) -> None:
        """End workers, which may hang: torch would wait for them."""
        for worker in self.workers:
            worker.kill()
            worker.join()


@contextlib.contextmanager
def _suppress_timeout() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "timed out" not in str(error):
            raise


@contextlib.contextmanager
def _default_sigchld() -> Iterator[None]:
    """Keep torch's handler out of the block: it raises wherever the end of a worker finds us."""
    number = getattr(signal, "SIGCHLD", None)
    if number is None:  # Windows
        yield
        return
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)
