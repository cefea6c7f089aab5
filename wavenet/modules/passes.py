"""The training pass of a stack of residual blocks, forward and backward, written out by hand.

The numbers are those of the blocks one after the other. What differs is how they are come by:

- *Rows.* A signal `(B, C, T)` lies in memory as `T * B` rows of `C` numbers, sample by sample, so
  that a 1x1 convolution is one matrix product, and a delay by `d` samples a view from row `d * B`
  on: each tap is a product that adds to some of the rows.
- *Skips.* The gates of all blocks stand side by side, and one product adds up all skips.
- *Memory.* Kept for the way back are each block's input, what goes into its gate, and its gates;
  with `recompute`, its input alone.

Under autocast all of it, the path from block to block too, is in autocast's precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavenet.modules.gates import Gates

PER_BLOCK = 7  # tensors of a block: see `Weights`


@dataclass(frozen=True)
class Plan:
    """What of a stack is no tensor.

    Attributes:
        dilations: Samples between taps, one entry a block.
        dropout: Probability of dropping an input of a dilated convolution.
        residual_scale: Factor on each block's sum of input and residual.
        skip_scale: Factor on the sum of the skips.
        gates: What computes the gates.
        recompute: Compute what goes into a gate again on the way back, in place of keeping it.
    """

    dilations: tuple[int, ...]
    dropout: float
    residual_scale: float
    skip_scale: float
    gates: type[Gates]
    recompute: bool


@dataclass
class Weights:
    """A block's tensors, in the precision that is computed in; absent ones are `None`."""

    taps: Tensor  # (kernel_size, gate_channels, residual_channels), the current sample's last
    bias: Tensor | None
    condition: Tensor | None  # (gate_channels, condition_channels)
    residual: Tensor | None  # (residual_channels, gate_channels / 2)
    residual_bias: Tensor | None
    skip: Tensor  # (skip_channels, gate_channels / 2)


def training_pass(
    x: Tensor, condition: Tensor | None, plan: Plan, tensors: Sequence[Tensor | None]
) -> Tensor:
    """Return the sum of the skips, `(B, skip_channels, T)`.

    Args:
        x: Input of the first block, `(B, residual_channels, T)`.
        condition: Of every sample, `(B, condition_channels, T)`.
        plan: What of the stack is no tensor.
        tensors: For each block weight and bias of its dilated convolution, weight of its condition,
            weight and bias of its residual and of its skip convolution.

    Raises:
        ValueError: The condition is missing, of another shape, or not asked for.
    """
    batch_size, _, length = x.shape
    wanted = None if tensors[2] is None else (batch_size, tensors[2].shape[1], length)
    given = None if condition is None else tuple(condition.shape)
    if given != wanted:
        raise ValueError(f"condition must be {wanted or 'left out'}, got {given or 'none'}")
    beside = None if condition is None else _rows(condition)
    keep = torch.is_grad_enabled()
    skips: Tensor = _Pass.apply(_rows(x), beside, batch_size, plan, keep, *tensors)
    return skips.view(length, batch_size, -1).permute(1, 2, 0)


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        condition: Tensor | None,
        batch_size: int,
        plan: Plan,
        keep: bool,
        *tensors: Tensor | None,
    ) -> Tensor:
        kind, dtype = x.device.type, x.dtype
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        with torch.autocast(kind, enabled=False):
            blocks = _blocks(tensors, dtype)
            x = x.to(dtype)
            condition = None if condition is None else condition.to(dtype)
            kept: list[Tensor] = []
            half, rows = blocks[0].skip.shape[1], len(x)
            gates = plan.gates(rows, half, x)
            gated = x.new_empty(rows, len(blocks) * half)
            for index, block in enumerate(blocks):
                mask = _mask(x, plan.dropout)
                shifts = _shifts(plan.dilations[index] * batch_size, len(block.taps))
                y = _convolved(x if mask is None else x * mask, condition, block, shifts)
                z = gates.forward(y, gated[:, index * half : (index + 1) * half])
                if keep:
                    kept += [x, *([] if plan.recompute else [y]), *([] if mask is None else [mask])]
                if block.residual is not None:
                    x = x.clone() if block.residual_bias is None else x + block.residual_bias
                    x.addmm_(z, block.residual.t())
                    if plan.residual_scale != 1.0:
                        x *= plan.residual_scale
            weight = torch.cat([block.skip for block in blocks], dim=1)
            skips = gated @ weight.t()
            biases = [bias for bias in tensors[6::PER_BLOCK] if bias is not None]
            if biases:
                skips += torch.stack(biases).sum(dim=0).to(dtype)
            if plan.skip_scale != 1.0:
                skips *= plan.skip_scale
        ctx.plan, ctx.batch_size, ctx.blocks = plan, batch_size, blocks
        ctx.likes = [None if tensor is None else (tensor.shape, tensor.dtype) for tensor in tensors]
        # the weights too: autograd then notices if one is changed before the way back
        ctx.save_for_backward(condition, None if plan.recompute else gated, *tensors, *kept)
        return skips

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_skips: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad_skips.device.type, enabled=False):
            return _backward(ctx, grad_skips)


def _backward(ctx: Any, grad_skips: Tensor) -> tuple[Tensor | None, ...]:
    plan, blocks = ctx.plan, ctx.blocks
    condition, gated, *kept = ctx.saved_tensors
    kept = kept[len(ctx.likes) :]  # behind the weights
    half = blocks[0].skip.shape[1]
    grad_skips = grad_skips.to(blocks[0].taps.dtype).contiguous()
    if plan.skip_scale != 1.0:
        grad_skips = grad_skips * plan.skip_scale
    gates = plan.gates(len(grad_skips), half, grad_skips)
    grad_z = grad_skips.new_empty(len(grad_skips), half)
    grad_condition = None if condition is None else torch.zeros_like(condition)
    skip_weights = gated if gated is None else grad_skips.t() @ gated
    skip_bias = grad_skips.sum(dim=0)
    grad_x: Tensor | None = None  # of the block's output: nothing reads the last one's
    grads: list[tuple[Tensor | None, ...]] = []
    for index in reversed(range(len(blocks))):
        block, place = blocks[index], slice(index * half, (index + 1) * half)
        shifts = _shifts(plan.dilations[index] * ctx.batch_size, len(block.taps))
        mask = kept.pop() if plan.dropout else None
        y = None if plan.recompute else kept.pop()
        x = kept.pop()
        seen = x if mask is None else x * mask
        if y is None:
            y = _convolved(seen, condition, block, shifts)
            z = gates.forward(y, torch.empty_like(grad_z))
            skip_weight = grad_skips.t() @ z
        else:
            assert skip_weights is not None
            z, skip_weight = gated[:, place], skip_weights[:, place]
        torch.mm(grad_skips, block.skip, out=grad_z)
        if grad_x is not None:
            if plan.residual_scale != 1.0:
                grad_x *= plan.residual_scale
            grad_z.addmm_(grad_x, block.residual)
        grad_y, across, z_across = gates.backward(y, z, grad_z)
        residual = None if grad_x is None else ((z_across @ grad_x).t(), grad_x.sum(dim=0))
        taps = _taps(across, seen, shifts)
        grad_x = _down(grad_x, grad_y, block, shifts, mask)
        if grad_condition is not None:
            grad_condition.addmm_(grad_y, block.condition)
        beside = None if condition is None else across @ condition
        bias = grad_y.sum(dim=0)
        grads.append((taps, bias, beside, *(residual or (None, None)), skip_weight, skip_bias))
    given = [grad for block in reversed(grads) for grad in block]
    shaped = (
        None if like is None or grad is None else _as(grad, *like)
        for grad, like in zip(given, ctx.likes, strict=True)
    )
    return (grad_x, grad_condition, None, None, None, *shaped)


def _taps(across: Tensor, seen: Tensor, shifts: Sequence[int]) -> Tensor:
    """Return the gradient of a dilated convolution's weight, `(gate_channels, C, kernel_size)`.

    Args:
        across: Gradient of its output, `(gate_channels, rows)`.
        seen: Its input, `(rows, C)`.
        shifts: Rows that each tap looks back.
    """
    taps = seen.new_zeros(len(shifts), len(across), seen.shape[1])
    for tap, shift in enumerate(shifts):
        if shift < len(seen):
            torch.mm(across[:, shift:], seen[: len(seen) - shift], out=taps[tap])
    return taps.permute(1, 2, 0)


def _down(
    grad_x: Tensor | None,
    grad_y: Tensor,
    block: Weights,
    shifts: Sequence[int],
    mask: Tensor | None,
) -> Tensor:
    """Return the gradient of a block's input, given that of its output and of its convolution's.

    The former is changed in place.
    """
    rows = len(grad_y)
    if grad_x is None:
        grad_x = grad_y.new_zeros(rows, block.taps.shape[2])
    grad_seen = grad_x if mask is None else torch.zeros_like(grad_x)
    for tap, shift in zip(block.taps, shifts, strict=True):
        if shift < rows:
            grad_seen[: rows - shift].addmm_(grad_y[shift:], tap)
    return grad_x if mask is None else grad_x.addcmul_(grad_seen, mask)


def _rows(x: Tensor) -> Tensor:
    """Return `(B, C, T)` as rows of `C`, sample by sample, `(T * B, C)`."""
    return x.permute(2, 0, 1).reshape(-1, x.shape[1])


def _blocks(tensors: Sequence[Tensor | None], dtype: torch.dtype) -> list[Weights]:
    found = []
    for first in range(0, len(tensors), PER_BLOCK):
        conv, bias, condition, residual, residual_bias, skip, _ = (
            None if tensor is None else tensor.to(dtype)
            for tensor in tensors[first : first + PER_BLOCK]
        )
        assert conv is not None
        assert skip is not None
        found.append(
            Weights(
                taps=conv.permute(2, 0, 1).contiguous(),
                bias=bias,
                condition=None if condition is None else condition.squeeze(-1),
                residual=None if residual is None else residual.squeeze(-1),
                residual_bias=residual_bias,
                skip=skip.squeeze(-1),
            )
        )
    return found


def _shifts(dilation: int, kernel_size: int) -> list[int]:
    """Return by how many rows each tap looks back, the oldest first."""
    return [dilation * back for back in range(kernel_size - 1, -1, -1)]


def _convolved(
    x: Tensor, condition: Tensor | None, block: Weights, shifts: Sequence[int]
) -> Tensor:
    """Return what goes into the gate, `(rows, gate_channels)`."""
    now = block.taps[-1].t()
    y = x @ now if block.bias is None else torch.addmm(block.bias, x, now)
    for tap, shift in enumerate(shifts[:-1]):
        if shift < len(x):
            y[shift:].addmm_(x[: len(x) - shift], block.taps[tap].t())
    if condition is not None and block.condition is not None:
        y.addmm_(condition, block.condition.t())
    return y


def _mask(x: Tensor, dropout: float) -> Tensor | None:
    """Return what the input of a convolution is multiplied by: 0, or what makes up for zeros."""
    if not dropout:
        return None
    return torch.empty_like(x).bernoulli_(1 - dropout).div_(1 - dropout)


def _as(grad: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return a gradient in its weight's shape and precision, in memory of its own."""
    return grad.new_empty(shape, dtype=dtype).copy_(grad.reshape(shape))
