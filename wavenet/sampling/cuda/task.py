"""The arguments of a launch, `struct Task` of kernels/warps.cu: tensors, then numbers."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

TENSORS = (
    *("gates", "residuals", "skips", "hidden", "output"),
    *("gate_biases", "residual_biases", "biases", "table", "rows_of_codes", "values", "blocks"),
    *("shared_conditioning", "local_conditioning", "seeds", "noise", "forced"),
    *("gated", "queues", "history", "last", "codes", "params"),
)
INTEGERS = (
    *("length", "warps", "num_blocks", "taps", "input_taps", "input_rows", "history_row"),
    *("residual", "gated_width", "skip", "head", "params_width", "local", "shared"),
    *("first_uniform", "num_uniforms", "guided"),
    *("top_k", "num_params", "num_mixtures", "is_gaussian"),
)
FLOATS = (
    *("guidance_scale", "temperature", "inverse_temperature", "top_p", "probability_floor"),
    *("min_log_scale", "residual_scale"),
)


class Task(ctypes.Structure):
    """What the kernel is given; every field has eight bytes."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in TENSORS),
        *((name, ctypes.c_longlong) for name in INTEGERS),
        *((name, ctypes.c_double) for name in FLOATS),
    )


@dataclass(frozen=True)
class Launch:
    """One launch of the kernel.

    Attributes:
        tensors: The tensors of `TENSORS` that there are, on the kernel's device; contiguous.
        numbers: All of `INTEGERS` and `FLOATS`.
        shared_bytes: Shared memory of a warp.
    """

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]
    shared_bytes: int

    @property
    def warps(self) -> int:
        """Warps, each a block of 32 threads."""
        return int(self.numbers["warps"])

    def task(self) -> Task:
        """Return the argument of the kernel; the tensors must stay until it has run."""
        addresses = {name: tensor.data_ptr() for name, tensor in self.tensors.items()}
        return Task(**addresses, **self.numbers)
