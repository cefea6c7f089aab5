"""NumPy arrays where tensors are expected: converted on the way into a public method."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def takes_arrays(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a method take NumPy arrays wherever it takes tensors.

    They are copied to the device of the object, float64 as float32; tensors are passed on as they
    are. Results are tensors.
    """

    @functools.wraps(method)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if any(isinstance(value, np.ndarray) for value in (*args, *kwargs.values())):
            device = _device_of(args[0])
            changed: Any = [_as_tensor(value, device) for value in args]
            named: Any = {name: _as_tensor(value, device) for name, value in kwargs.items()}
            return method(*changed, **named)
        return method(*args, **kwargs)

    return wrapped


def _as_tensor(value: object, device: torch.device) -> object:
    if not isinstance(value, np.ndarray):
        return value
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    tensor: Tensor = torch.tensor(native, device=device)  # a copy: an array may be read-only
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def _device_of(owner: Any) -> torch.device:
    """Return the device of a module, or of the model of a sampler; the CPU for anything else."""
    module = getattr(owner, "model", owner)
    if not isinstance(module, torch.nn.Module):
        return torch.device("cpu")
    first = next((one for one in (*module.parameters(), *module.buffers())), None)
    return torch.device("cpu") if first is None else first.device
