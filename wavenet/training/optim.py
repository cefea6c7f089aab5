"""Optimizer, learning rate schedule and exponential moving average (EMA) of the weights."""

import math
from collections.abc import Iterable
from dataclasses import replace

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
    """Return the learning rate of the update after `step` updates: warm-up, then the schedule.

    A schedule that ends in the warm-up has no steps to decay in: `lr` holds after the warm-up.
    """
    length = optim.lr_schedule_steps or max_steps
    warmup = min((step + 1) / (optim.warmup_steps + 1), 1.0)
    progress, min_ratio = 0.0, optim.min_lr_ratio
    if not _end_in_warmup(optim, length):
        progress = max(step - optim.warmup_steps, 0) / (length - optim.warmup_steps)
        progress = min(progress, 1.0)
    decay: dict[str, float] = {
        "constant": 1.0,
        "cosine": min_ratio + (1 - min_ratio) * (1 + math.cos(math.pi * progress)) / 2,
        "exponential": min_ratio**progress,
    }
    return optim.lr * (warmup * decay[optim.lr_schedule])


def hold_schedule(optim: OptimOptions, max_steps: int, new_max_steps: int) -> OptimOptions:
    """Return the optimizer of a run that is resumed with another number of steps.

    Its learning rate keeps the schedule, and after that the schedule's last value: it would jump up
    if the schedule were stretched to the new number of steps. A run that ended in its warm-up has
    no last value yet: its schedule is that of the new number of steps.
    """
    if new_max_steps == max_steps:
        return optim
    length = optim.lr_schedule_steps or max_steps
    if _end_in_warmup(optim, max(length, max_steps)):
        return replace(optim, lr_schedule_steps=None)
    return replace(optim, lr_schedule_steps=length)


def schedule_line(
    before: OptimOptions, now: OptimOptions, step: int, max_steps: int, new_max_steps: int
) -> str | None:
    """Return what a resumed run's learning rate does, if it could have done something else.

    Args:
        before: Optimizer of the run so far.
        now: Optimizer from now on.
        step: Updates so far.
        max_steps: Of the run so far.
        new_max_steps: From now on.
    """
    length = before.lr_schedule_steps or max_steps
    new_length = now.lr_schedule_steps or new_max_steps
    kept = replace(before, lr_schedule_steps=length)
    stretched = replace(before, lr_schedule_steps=new_max_steps)
    decayed = max(step, min(before.warmup_steps + 1, new_max_steps - 1))  # here schedules differ
    kept_rate, rate, stretched_rate = (
        learning_rate(one, decayed, new_max_steps) for one in (kept, now, stretched)
    )
    in_warmup = _end_in_warmup(before, length)
    if rate != kept_rate or (in_warmup and new_length != length):
        return (
            f"the learning rate is {learning_rate(now, step, new_max_steps):.2g} now and "
            f"{learning_rate(now, new_max_steps - 1, new_max_steps):.2g} at the end, it was "
            f"{learning_rate(kept, max(step - 1, 0), max_steps):.2g}: its schedule now has "
            f"{new_length:,} steps, before {length:,}{', which ended in the warm-up' * in_warmup}"
        )
    if new_max_steps == max_steps or kept_rate == stretched_rate:
        return None
    return (
        f"trainer.max_steps={new_max_steps} (was {max_steps}): the learning rate keeps its "
        f"schedule of {length:,} steps, {learning_rate(kept, step, max_steps):.2g} now and "
        f"{learning_rate(kept, new_max_steps - 1, max_steps):.2g} at the end; "
        f"optim.lr_schedule_steps={new_max_steps} stretches it, "
        f"{learning_rate(stretched, step, max_steps):.2g} now"
    )


def _end_in_warmup(optim: OptimOptions, steps: int) -> bool:
    """Return whether so many steps end before the learning rate first decays."""
    return steps <= optim.warmup_steps + 1


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
