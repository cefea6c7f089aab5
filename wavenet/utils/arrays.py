"""NumPy arrays where tensors are expected: converted on the way into a public method."""

from typing import Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = Tensor | NDArray[Any]


@overload
def as_tensor(value: Array, owner: object) -> Tensor: ...
@overload
def as_tensor(value: Array | None, owner: object) -> Tensor | None: ...
def as_tensor(value: Array | None, owner: object) -> Tensor | None:
    """Return a tensor or `None` as it is, a NumPy array as a copy on the device of `owner`.

    float64 becomes float32.

    Args:
        value: Argument of a public method.
        owner: Module or sampler whose method it is.
    """
    if not isinstance(value, np.ndarray):
        return value
    native = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("="), copy=False))
    native = native.reshape(value.shape)  # a number stays one
    tensor = torch.tensor(native, device=_device_of(owner))  # a copy: an array may be read-only
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _device_of(owner: object) -> torch.device:
    """Return the device of a module, or of the model of a sampler; the CPU for anything else."""
    module = getattr(owner, "model", owner)
    if not isinstance(module, torch.nn.Module):
        return torch.device("cpu")
    first = next((one for one in (*module.parameters(), *module.buffers())), None)
    return torch.device("cpu") if first is None else first.device
