"""One launch of a kernel, and its argument: a struct of tensors' addresses and numbers."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


def task_type(
    tensors: Sequence[str], integers: Sequence[str], floats: Sequence[str] = ()
) -> type[ctypes.Structure]:
    """Return a kernel's `struct Task`; every field has eight bytes."""
    kinds = ((tensors, ctypes.c_void_p), (integers, ctypes.c_longlong), (floats, ctypes.c_double))
    fields = [(name, kind) for names, kind in kinds for name in names]
    return type("Task", (ctypes.Structure,), {"_fields_": fields})


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel.

    Attributes:
        kernel: Its name.
        task_type: The kind of its argument.
        tensors: The tensors that there are, on the kernel's device.
        numbers: All other fields of the argument.
        blocks: Blocks of threads.
        threads: Threads of a block.
        shared_bytes: Shared memory of a block.
    """

    kernel: str
    task_type: type[ctypes.Structure]
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]
    blocks: int
    threads: int
    shared_bytes: int = 0

    def task(self) -> ctypes.Structure:
        """Return the argument of the kernel; the tensors must stay until it has run."""
        addresses = {name: tensor.data_ptr() for name, tensor in self.tensors.items()}
        return self.task_type(**addresses, **self.numbers)


class Launcher(Protocol):
    """Compiled kernels on their device.

    Attributes:
        device: Where tensors must be.
        max_shared_bytes: Shared memory that a block can have.
    """

    device: torch.device
    max_shared_bytes: int

    def launch(self, launch: Launch) -> None:
        """Run a kernel, in order with the other work of the device."""
