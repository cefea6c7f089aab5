"""Optimizer, learning rate schedule and exponential moving average (EMA) of the weights."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from wavenet.training.options import OptimOptions


def build_optimizer(parameters: Iterable[nn.Parameter], optim: OptimOptions) -> torch.optim.Adam:
    """Return Adam over `parameters`; `fused` updates all of them in one kernel."""
    return torch.optim.Adam(
        parameters,
        lr=optim.lr,
        betas=(optim.betas[0], optim.betas[1]),
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        decoupled_weight_decay=optim.decoupled_weight_decay,
        fused=True,
    )


def learning_rate(optim: OptimOptions, step: int, max_steps: int) -> float:
    """Return the learning rate of the update after `step` updates: warm-up, then the schedule."""
    warmup = min((step + 1) / (optim.warmup_steps + 1), 1.0)
    progress = max(step - optim.warmup_steps, 0) / max(max_steps - optim.warmup_steps, 1)
    progress, min_ratio = min(progress, 1.0), optim.min_lr_ratio
    decay: dict[str, float] = {
        "constant": 1.0,
        "cosine": min_ratio + (1 - min_ratio) * (1 + math.cos(math.pi * progress)) / 2,
        "exponential": min_ratio**progress,
    }
    return optim.lr * (warmup * decay[optim.lr_schedule])


def step_optimizer(optimizer: torch.optim.Adam, skip: Tensor | None = None) -> None:
    """Update the weights and the optimizer's moments.

    Args:
        optimizer: From `build_optimizer`.
        skip: On the weights' device, float32 `()`: 1 changes nothing. The device decides, without
            waiting for the CPU.
    """
    optimizer.found_inf = skip  # type: ignore[attr-defined]  # as torch.amp.GradScaler sets it
    optimizer.step()
    optimizer.found_inf = None  # type: ignore[attr-defined]


@torch.no_grad()
def update_ema(
    ema_model: nn.Module,
    model: nn.Module,
    ema_decay: float,
    step: int,
    skip: Tensor | None = None,
) -> None:
    """Move the average of the weights towards the weights after an update.

    Args:
        ema_model: Changed in place.
        model: The weights.
        ema_decay: Weight of the past, smaller in the first updates to forget the initial weights.
        step: Updates before this one.
        skip: As in `step_optimizer`.
    """
    decay = min(ema_decay, (1 + step) / (10 + step))
    averages: list[Tensor] = list(ema_model.parameters())
    weights: list[Tensor] = list(model.parameters())
    if skip is None:
        torch._foreach_lerp_(averages, weights, 1 - decay)
        return
    changes = torch._foreach_sub(weights, averages)
    torch._foreach_mul_(changes, (1 - decay) * (1 - skip))
    torch._foreach_add_(averages, changes)
