"""NaN and infinity: found in one pass over all tensors, and reported by name."""

import logging
import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from wavenet.utils.errors import ConfigError

MAX_SKIPPED_IN_A_ROW = 20  # updates
ADVICE = "start again with a lower optim.lr or optim.max_grad_norm"
log = logging.getLogger("wavenet")


def first_nonfinite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity, `None` if all are finite.

    Args:
        tensors: On one device, by name.
    """
    filled = [tensor for tensor in tensors.values() if tensor.numel()]
    if not filled:
        return None
    largest = torch._foreach_norm(filled, math.inf)  # of NaN it is NaN; it cannot overflow
    if bool(torch.stack(largest).isfinite().all()):
        return None
    return next(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))


def nonfinite_gradient(model: nn.Module) -> str | None:
    """Return the name of the first weight whose gradient is not finite, `None` if all are."""
    gradients = ((name, weight.grad) for name, weight in model.named_parameters())
    return first_nonfinite({name: grad for name, grad in gradients if grad is not None})


def report_nonfinite_gradient(
    name: str,
    step: int,
    loss: float,
    on_nonfinite: Literal["stop", "skip"],
    skipped: int,
    skipped_in_a_row: int,
) -> None:
    """Warn that an update is skipped, or end training.

    Args:
        name: The weight whose gradient is not finite.
        step: Number of the update.
        loss: Of the update's batches.
        on_nonfinite: Whether to end training.
        skipped: Updates skipped so far, this one included.
        skipped_in_a_row: Those since the last update that was made.

    Raises:
        ConfigError: Training is to stop, or has skipped too many updates in a row.
    """
    found = f"gradient of {name} is not finite at step {step}, where the loss is {loss:.4g}"
    if on_nonfinite == "stop":
        raise ConfigError(
            f"{found}: training diverged; {ADVICE}, or continue with trainer.on_nonfinite=skip"
        )
    if skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
        raise ConfigError(f"{found}: {skipped_in_a_row} updates in a row were skipped; {ADVICE}")
    log.warning("warning: %s: the update is skipped (%d so far)", found, skipped)
