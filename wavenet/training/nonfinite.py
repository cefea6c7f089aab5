"""NaN and infinity: found with one look over all tensors, and named where there are any."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def first_nonfinite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity; nothing if all are finite.

    Args:
        tensors: On one device, by name.
    """
    filled = [tensor for tensor in tensors.values() if tensor.numel()]
    if not filled:
        return None
    largest = torch._foreach_norm(filled, math.inf)  # NaN where there is one; nothing to overflow
    if bool(torch.stack(largest).isfinite().all()):
        return None
    return next(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))
