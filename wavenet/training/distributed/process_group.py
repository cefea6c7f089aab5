"""The processes that train one model: their collectives, and work that process 0 does for all.

Process 0 decides and writes: it prepares data, makes the run's folder, saves checkpoints, exports
and reports. The others wait for its result, or raise its error. Such a wait has no limit, yet a
process that stops, dies or is cut off is noticed within `trainer.ddp_timeout_seconds`: while
process 0 works, it sends a heartbeat.

Every collective must be called by all processes.
"""

import contextlib
import datetime
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from wavenet.training.distributed.launcher import Launch, detect_launcher, rendezvous_store
from wavenet.training.options import TrainerOptions
from wavenet.utils.errors import ConfigError, MachineError, WavenetError, printable

EVENT_POLL_SECONDS = 0.0005
T = TypeVar("T")
log = logging.getLogger("wavenet")


class PeerLostError(WavenetError):
    """Another process of the group ended, stopped, or cannot be reached: training cannot go on."""

    exit_code = MachineError.exit_code


@dataclass(eq=False)
class ProcessGroup:
    """This process's view of the process group."""

    launch: Launch  # rank and size
    device: torch.device  # where this process trains
    timeout: float = 60.0  # seconds without a sign of life until another process counts as lost
    group: distributed.ProcessGroup | None = None  # for CPU tensors; `None` if alone

    def __post_init__(self) -> None:
        self.rank = self.launch.rank
        self.size = self.launch.size

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return every process's `tensor`, by rank; all have one shape and type, on the CPU."""
        if self.group is None:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        with self.raise_on_lost_peer():
            distributed.all_gather(gathered, tensor.contiguous(), group=self.group)
        return gathered

    def all_reduce_mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, bit-equal in all of them.

        The tensors are reduced as one vector, so that each sum is rounded in the same order at
        every step: a resumed run has the bits of one that was not interrupted.
        """
        if self.group is not None:
            with self._as_one_vector(tensors) as flat:
                distributed.all_reduce(flat)
                flat.div_(self.size)

    def wait(self, event: torch.cuda.Event) -> None:
        """Wait until a GPU has reached `event`, past the collectives before it.

        A collective of the GPU does not fail if another process is lost: it never ends.

        Raises:
            PeerLostError: The event was not reached within `timeout`.
        """
        if self.group is None:
            event.synchronize()
            return
        deadline = time.monotonic() + self.timeout
        while not event.query():  # type: ignore[no-untyped-call]
            if time.monotonic() > deadline:
                raise self._lost_peer("a collective of the GPU did not end")
            time.sleep(EVENT_POLL_SECONDS)

    def broadcast_parameters(self, parameters: Iterable[Tensor]) -> None:
        """Replace each parameter by that of process 0."""
        if self.group is not None:
            self.all_gather(torch.zeros(0))  # a GPU would wait forever for a process that is lost
            with self._as_one_vector([parameter.data for parameter in parameters]) as flat:
                distributed.broadcast(flat, src=0)

    def run_on_rank_zero(self, function: Callable[[], T]) -> T:
        """Call `function` in process 0; return its result, or raise its error, in all processes.

        It may take hours, and must not wait for the other processes.
        """
        if self.group is None:
            return function()
        if self.rank:
            received: T = self._receive_result()
            return received
        done = threading.Event()
        heartbeat = threading.Thread(target=self._send_heartbeats, args=(done,), daemon=True)
        heartbeat.start()
        message: tuple[str, Any] = ("error", (MachineError, "process 0 was interrupted"))
        try:
            result: T = function()
            message = ("result", result)
        except Exception as error:
            message = ("error", _error_for_peers(error))
            raise
        finally:
            done.set()
            heartbeat.join()
            with contextlib.ExitStack() as stack:
                if message[0] == "error":  # it matters more than a peer that is lost too
                    stack.enter_context(contextlib.suppress(RuntimeError))
                else:
                    stack.enter_context(self.raise_on_lost_peer())
                self._broadcast_message(message)
        return result

    @contextlib.contextmanager
    def raise_on_lost_peer(self) -> Iterator[None]:
        """Turn a failed collective within the block into a `PeerLostError`.

        Raises:
            PeerLostError: Another process ended, stopped, or cannot be reached.
        """
        try:
            yield
        except RuntimeError as error:
            failed = isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
            if self.group is None or not failed:
                raise
            raise self._lost_peer(printable(error, 120)) from error

    def _lost_peer(self, reason: str) -> PeerLostError:
        return PeerLostError(
            f"process {self.rank} of {self.size} lost another one: it failed and reports why, "
            f"or gave no sign for trainer.ddp_timeout_seconds={self.timeout:g} s ({reason})"
        )

    @contextlib.contextmanager
    def _as_one_vector(self, tensors: list[Tensor]) -> Iterator[Tensor]:
        """Yield all tensors as one vector for a collective; copy what it holds back after it."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with self.raise_on_lost_peer():
            yield flat
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def _send_heartbeats(self, done: threading.Event) -> None:
        with contextlib.suppress(RuntimeError):  # noticed when the result is sent
            while not done.wait(self.timeout / 4):
                self._broadcast_message(("busy", None))

    def _receive_result(self) -> Any:
        with self.raise_on_lost_peer():
            kind, value = self._broadcast_message(None)
            while kind == "busy":
                kind, value = self._broadcast_message(None)
        if kind == "result":
            return value
        error_class, text = value
        error: Exception = error_class.__new__(error_class)
        error.args = (text,)
        if isinstance(error, WavenetError):
            error.reported_elsewhere = True
        raise error

    def _broadcast_message(self, message: tuple[str, Any] | None) -> tuple[str, Any]:
        """Send a message from process 0; return it in all processes."""
        box: list[Any] = [message]
        distributed.broadcast_object_list(box, src=0, group=self.group)
        received: tuple[str, Any] = box[0]
        return received


@contextlib.contextmanager
def join_process_group(options: TrainerOptions) -> Iterator[ProcessGroup]:
    """Yield the process group that this process was launched in, connected within the block.

    Raises:
        ConfigError: The device is missing, or there are more processes than GPUs.
        PeerLostError: The other processes do not come.
    """
    launch = detect_launcher(os.environ)
    if launch.size == 1:
        device = _single_device(options.device)
        yield ProcessGroup(launch, device)
        return
    if launch.rank:
        log.setLevel(logging.ERROR)  # process 0 logs for all
    _divide_cores(launch)
    device = _device(launch, options)
    # NCCL would abort the process, without a message of ours: `ProcessGroup.wait` ends it instead
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    timeout = datetime.timedelta(seconds=options.ddp_timeout_seconds)
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=rendezvous_store(launch),
            rank=launch.rank,
            world_size=launch.size,
            timeout=timeout,
        )
        group = distributed.new_group(backend="gloo", timeout=timeout)
    except RuntimeError as error:
        raise PeerLostError(
            f"process {launch.rank} of {launch.size} does not find the others: {printable(error)}; "
            "GLOO_SOCKET_IFNAME=NAME (and NCCL_SOCKET_IFNAME) select the network interface"
        ) from error
    assert isinstance(group, distributed.ProcessGroup)
    yield ProcessGroup(launch, device, options.ddp_timeout_seconds, group)
    distributed.destroy_process_group()  # not after an error: it could wait for lost processes


def _device(launch: Launch, options: TrainerOptions) -> torch.device:
    """Return the device of one process among several."""
    if options.device == "mps":
        raise ConfigError("trainer.device=mps trains in one process: start it without a launcher")
    if options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    num_gpus = torch.cuda.device_count()
    if num_gpus == 1 and launch.address is not None:
        return torch.device("cuda", 0)  # Slurm shows each process its own GPU alone
    if launch.local_rank >= num_gpus:
        raise ConfigError(
            f"{launch.local_size} processes on this host, which has {num_gpus} GPUs: start one per "
            "GPU (torchrun's --nproc-per-node), or set trainer.device=cpu"
        )
    return torch.device("cuda", launch.local_rank)


def _single_device(name: str) -> torch.device:
    """Return the device of a single process; `auto` prefers a GPU."""
    idle_gpus = torch.cuda.device_count() - 1
    if name in ("auto", "cuda") and idle_gpus > 0:
        log.info(
            "this run uses one GPU and leaves %d idle: "
            "torchrun --standalone --nproc-per-node=%d $(which wavenet-train) ... uses all",
            *(idle_gpus, idle_gpus + 1),
        )
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _divide_cores(launch: Launch) -> None:
    """Give each process its part of the cores, unless OMP_NUM_THREADS is set, as by torchrun."""
    if "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, torch.get_num_threads() // launch.local_size)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def _error_for_peers(error: Exception) -> tuple[type[Exception], str]:
    """Return the class and text of what the other processes raise for an error of process 0."""
    if type(error).__module__.startswith("wavenet."):
        return type(error), str(error)
    return MachineError, f"process 0 failed: {printable(error)}"
