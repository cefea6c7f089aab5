"""The processes that train one model together, and how they agree.

Process 0 decides and writes: it prepares, makes the run's folder, saves, exports and reports. The
others wait for what it comes to, and learn of its errors. A wait is as long as the work, yet it is
noticed within `trainer.ddp_timeout_seconds` if a process stops, dies or is cut off: while process 0
works, it gives a sign of life now and then.

Nothing of this is touched by a process alone.
"""

import contextlib
import datetime
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from wavenet.training.distributed.launcher import Launch, detect_launcher
from wavenet.training.distributed.rendezvous import meeting
from wavenet.training.options import TrainerOptions
from wavenet.utils.errors import ConfigError, MachineError, WavenetError, printable

T = TypeVar("T")
log = logging.getLogger("wavenet")


class PeerLostError(WavenetError):
    """Another process of the team ended, stopped, or cannot be reached: there is no going on."""

    exit_code = MachineError.exit_code


class ProcessGroup:
    """A process among its like.

    Args:
        launch: Who this process is.
        device: What it computes on; absent for a process alone, where the trainer chooses.
        timeout: Seconds without a sign of life after which another process counts as lost.
        group: Of the processes, for what they tell each other; absent for one alone.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
    """

    def __init__(
        self,
        launch: Launch,
        device: torch.device | None = None,
        timeout: float = 60.0,
        group: distributed.ProcessGroup | None = None,
    ) -> None:
        self.launch = launch
        self.device = device
        self.timeout = timeout
        self.group = group
        self.rank = launch.rank
        self.size = launch.size

    def gather(self, own: Tensor) -> list[Tensor]:
        """Return what each process gives, in their order; of one shape and type, on the CPU."""
        if self.group is None:
            return [own]
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        with self.together():
            distributed.all_gather(everyone, own.contiguous(), group=self.group)
        return everyone

    def average(self, tensors: list[Tensor]) -> None:
        """Put in the place of each tensor its mean over the processes, the same bits in all."""
        if self.group is None:
            return
        whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with self.together():
            distributed.all_reduce(whole)
        _put(whole.div_(self.size), tensors)

    def align(self, tensors: list[Tensor]) -> None:
        """Put in the place of each tensor that of process 0."""
        if self.group is None or not tensors:
            return
        whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with self.together():
            distributed.broadcast(whole, src=0)
        _put(whole, tensors)

    def share(self, function: Callable[[], T]) -> T:
        """Call `function` in process 0, and return its result, or raise its error, in all.

        It may take hours, and must not wait for the other processes.

        Args:
            function: What process 0 does; its result goes to the others.
        """
        if self.group is None:
            return function()
        if self.rank:
            waited: T = self._waited()
            return waited
        done = threading.Event()
        beats = threading.Thread(target=self._beat, args=(done,), daemon=True)
        beats.start()
        answer: tuple[str, Any] = ("error", (MachineError, "process 0 was interrupted"))
        try:
            result: T = function()
            answer = ("result", result)
        except Exception as error:
            answer = ("error", _told_of(error))
            raise
        finally:
            done.set()
            beats.join()
            with contextlib.ExitStack() as stack:
                if answer[0] == "error":  # which matters more than that others are lost too
                    stack.enter_context(contextlib.suppress(RuntimeError))
                else:
                    stack.enter_context(self.together())
                self._told(answer)
        return result

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Say in a sentence if another process is lost within the block.

        Raises:
            PeerLostError: It ended, stopped, or cannot be reached.
        """
        try:
            yield
        except RuntimeError as error:
            if self.group is None or not _of_the_network(error):
                raise
            raise PeerLostError(
                f"process {self.rank} of {self.size} lost another: it failed, and says why itself, "
                f"or gave no sign for trainer.ddp_timeout_seconds={self.timeout:g} s "
                f"({printable(error, 120)})"
            ) from error

    def _beat(self, done: threading.Event) -> None:
        with contextlib.suppress(RuntimeError):  # found at the end of the work
            while not done.wait(self.timeout / 4):
                self._told(("busy", None))

    def _waited(self) -> Any:
        with self.together():
            kind, value = self._told(None)
            while kind == "busy":
                kind, value = self._told(None)
        if kind == "result":
            return value
        cls, text = value
        error: Exception = cls.__new__(cls)
        error.args = (text,)
        if isinstance(error, WavenetError):
            error.reported_elsewhere = True
        raise error

    def _told(self, answer: tuple[str, Any] | None) -> tuple[str, Any]:
        box: list[Any] = [answer]
        distributed.broadcast_object_list(box, src=0, group=self.group)
        told: tuple[str, Any] = box[0]
        return told


@contextlib.contextmanager
def assembled(options: TrainerOptions) -> Iterator[ProcessGroup]:
    """Yield the team of this process, connected with the others within the block.

    Raises:
        ConfigError: There are more processes than GPUs.
        PeerLostError: The others do not come.
    """
    launch = detect_launcher(os.environ)
    if launch.size == 1:
        yield ProcessGroup(launch)
        return
    if launch.rank:
        log.setLevel(logging.ERROR)  # process 0 tells what goes on
    _share_out_cores(launch)
    device = _device(launch, options)
    timeout = datetime.timedelta(seconds=options.ddp_timeout_seconds)
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=meeting(launch),
            rank=launch.rank,
            world_size=launch.size,
            timeout=timeout,
        )
        group = distributed.new_group(backend="gloo", timeout=timeout)
    except RuntimeError as error:
        raise PeerLostError(
            f"process {launch.rank} of {launch.size} does not find the others: {printable(error)}; "
            "GLOO_SOCKET_IFNAME=NAME (and NCCL_SOCKET_IFNAME) say which network interface to use"
        ) from error
    assert isinstance(group, distributed.ProcessGroup)
    yield ProcessGroup(launch, device, options.ddp_timeout_seconds, group)
    distributed.destroy_process_group()  # not after an error: it could wait for those who are lost


def _device(launch: Launch, options: TrainerOptions) -> torch.device:
    if options.device == "mps":
        raise ConfigError("trainer.device=mps trains in one process: start it without a launcher")
    if options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    there = torch.cuda.device_count()
    if there == 1 and launch.address is not None:
        return torch.device("cuda", 0)  # Slurm shows each process its own GPU alone
    if launch.local_rank >= there:
        raise ConfigError(
            f"{launch.local_size} processes on this host, which has {there} GPUs: start as many "
            "as there are GPUs (torchrun's --nproc-per-node), or say trainer.device=cpu"
        )
    return torch.device("cuda", launch.local_rank)


def _share_out_cores(launch: Launch) -> None:
    """Give each process its part of the cores, unless that is said already, as torchrun does."""
    if "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, torch.get_num_threads() // launch.local_size)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)


def _told_of(error: Exception) -> tuple[type[Exception], str]:
    """Return what the other processes raise for an error of process 0: our own are known to all."""
    if type(error).__module__.startswith("wavenet."):
        return type(error), str(error)
    return MachineError, f"process 0 failed: {printable(error)}"


def _put(whole: Tensor, tensors: list[Tensor]) -> None:
    """Copy what was one long vector back into its parts."""
    start = 0
    for tensor in tensors:
        tensor.copy_(whole[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()


def _of_the_network(error: RuntimeError) -> bool:
    """Whether it comes of talking to other processes, rather than of our own work."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
