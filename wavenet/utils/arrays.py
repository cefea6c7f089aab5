"""Arguments of public methods: NumPy arrays where tensors are expected, and plain numbers."""

import math
import operator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.utils.errors import printable

Array: TypeAlias = Tensor | NDArray[Any]
NUMBERS = "fiu"  # kinds of arrays: floating point, integers


def as_tensor(name: str, value: Array, owner: object, *, keep_double: bool = False) -> Tensor:
    """Return a tensor as it is, a NumPy array as a copy on the device of `owner`.

    float64 becomes float32.

    Args:
        name: Of the argument, for the message.
        value: Argument of a public method.
        owner: Module or sampler whose method it is, or a tensor on the device wanted.
        keep_double: Leave float64 as it is.

    Raises:
        ValueError: `value` is something else, or holds something other than real numbers.
    """
    if isinstance(value, Tensor) and not value.is_complex():
        _check_has_values(name, value, owner)
        return value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in NUMBERS:
        raise ValueError(f"{name} must be a tensor or a NumPy array of numbers, got {_kind(value)}")
    dtype = value.dtype.newbyteorder("=") if value.dtype.itemsize <= 8 else np.dtype(np.float64)
    native = np.ascontiguousarray(value.astype(dtype, copy=False))
    native = native.reshape(value.shape)  # a number stays one
    tensor = torch.tensor(native, device=_device_of(owner))  # a copy: an array may be read-only
    return tensor.float() if tensor.dtype == torch.float64 and not keep_double else tensor


def as_optional_tensor(
    name: str, value: Array | None, owner: object, *, keep_double: bool = False
) -> Tensor | None:
    """Return `None` as it is, anything else as `as_tensor` does."""
    return None if value is None else as_tensor(name, value, owner, keep_double=keep_double)


def whole_number(name: str, value: Any, wanted: str = "a whole number") -> int:
    """Return an integer of any type as `int`; a boolean is none.

    Raises:
        ValueError: `value` is something else; the message says what is `wanted`.
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}") from None


def real_number(name: str, value: Any) -> float:
    """Return a number of any type as `float`; NaN and infinity too.

    Raises:
        ValueError: `value` is something else.
    """
    if isinstance(value, (Tensor, np.ndarray, np.generic)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {shown(value)}")
    if abs(value) >= 1e300:  # too large for a float, perhaps
        return math.inf if value > 0 else -math.inf
    return float(value)


def shown(value: object) -> str:
    """Return a value and its type for a message."""
    return f"{printable(repr(value), 80)} ({type(value).__name__})"


def _check_has_values(name: str, value: Tensor, owner: object) -> None:
    """Raise a `ValueError` for a sparse tensor, or one on the meta device for a model elsewhere."""
    if value.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor, got {value.layout}: use .to_dense()")
    is_model = isinstance(getattr(owner, "model", owner), torch.nn.Module)
    if value.is_meta and is_model and _device_of(owner).type != "meta":
        raise ValueError(f"{name} must have values, got a tensor on the meta device")


def _kind(value: object) -> str:
    """Return what was given in place of an array of numbers."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"an array of {printable(value.dtype)}"
    return shown(value)


def _device_of(owner: object) -> torch.device:
    """Return the device of a tensor, a module or a sampler's model; the CPU for anything else."""
    if isinstance(owner, Tensor):
        return owner.device
    module = getattr(owner, "model", owner)
    if not isinstance(module, torch.nn.Module):
        return torch.device("cpu")
    first = next((one for one in (*module.parameters(), *module.buffers())), None)
    return torch.device("cpu") if first is None else first.device
