"""The training pass of a stack of residual blocks, forward and backward, written out by hand.

The numbers are those of the blocks one after the other. What differs is how they are come by:

- *Rows.* A signal `(B, C, T)` lies in memory as `T * B` rows of `C` numbers, sample by sample, so
  that a 1x1 convolution is one matrix product, and a delay by `d` samples a view from row `d * B`
  on: each tap is a product that adds to some of the rows.
- *Skips.* The gates of all blocks stand side by side, and one product adds up all skips; on the
  way back one product serves a few blocks.
- *Biases.* The gate adds those of the dilated convolutions and sums their gradients, since it looks
  at all rows anyhow.
- *Memory.* Kept for the way back are each block's input, what goes into its gate, and its gates;
  with `checkpoint_activations`, its input alone.

Under autocast all of it, the path from block to block too, is in autocast's precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavenet.modules.gated_activation import GatedActivation

PIECE_BYTES = 2**21  # of what taps add up in: it stays in the cache until all have
GROUP_BYTES = 512  # of a row: more would leave the cache before it is read


@dataclass(frozen=True)
class StackSpec:
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
    gated_activation: type[GatedActivation]
    checkpoint_activations: bool


class StackWeights(NamedTuple):
    """A stack's tensors by kind, each with an entry a block; absent ones are `None`."""

    conv: Sequence[Tensor | None]  # (gate_channels, residual_channels, kernel_size)
    conv_bias: Sequence[Tensor | None]
    condition: Sequence[Tensor | None]  # (gate_channels, condition_channels, 1)
    residual: Sequence[Tensor | None]  # (residual_channels, gate_channels / 2, 1)
    residual_bias: Sequence[Tensor | None]
    skip: Sequence[Tensor | None]  # (skip_channels, gate_channels / 2, 1)
    skip_bias: Sequence[Tensor | None]


@dataclass
class BlockWeights:
    """What a block computes with, in the precision that is computed in."""

    taps: Tensor  # (kernel_size, gate_channels, residual_channels), the current sample's last
    bias: Tensor | None  # in its own precision
    condition: Tensor | None  # (gate_channels, condition_channels)
    residual: Tensor | None  # (residual_channels, gate_channels / 2)
    residual_bias: Tensor | None


def fused_stack(
    x: Tensor, condition: Tensor | None, plan: StackSpec, weights: StackWeights
) -> Tensor:
    """Return the sum of the skips, `(B, skip_channels, T)`.

    Args:
        x: Input of the first block, `(B, residual_channels, T)`.
        condition: Of every sample, `(B, conditioning_channels, T)`.
        plan: What of the stack is no tensor.
        weights: The stack's tensors.

    Raises:
        ValueError: The condition is missing, of another shape, or not asked for.
    """
    batch_size, _, length = x.shape
    asks = weights.condition[0]
    wanted = None if asks is None else (batch_size, asks.shape[1], length)
    given = None if condition is None else tuple(condition.shape)
    if given != wanted:
        raise ValueError(f"condition must be {wanted or 'left out'}, got {given or 'none'}")
    beside = None if condition is None else _rows(condition)
    keep = torch.is_grad_enabled()
    tensors = [tensor for kind in weights for tensor in kind]
    skips: Tensor = _Pass.apply(_rows(x), beside, batch_size, plan, keep, *tensors)
    return skips.view(length, batch_size, skips.shape[1]).permute(1, 2, 0)


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        condition: Tensor | None,
        batch_size: int,
        plan: StackSpec,
        keep: bool,
        *tensors: Tensor | None,
    ) -> Tensor:
        kind, dtype = x.device.type, x.dtype
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        with torch.autocast(kind, enabled=False):
            weights = StackWeights(*_kinds(tensors, len(plan.dilations)))
            skip, blocks = _blocks(weights, dtype)
            x = x.to(dtype)
            condition = None if condition is None else condition.to(dtype)
            kept: list[Tensor] = []
            half, rows = skip.shape[1] // len(blocks), len(x)
            gated_activation = plan.gated_activation(rows, half, x)
            gated = x.new_empty(rows, len(blocks) * half)
            for index, block in enumerate(blocks):
                mask = _mask(x, plan.dropout)
                shifts = _shifts(plan.dilations[index] * batch_size, len(block.taps))
                y = _convolved(x if mask is None else x * mask, condition, block, shifts)
                z = gated_activation.forward(
                    y, block.bias, gated[:, index * half : (index + 1) * half]
                )
                if keep:
                    kept += [
                        x,
                        *([] if plan.checkpoint_activations else [y]),
                        *([] if mask is None else [mask]),
                    ]
                if block.residual is not None:
                    x = x.clone() if block.residual_bias is None else x + block.residual_bias
                    x.addmm_(z, block.residual.t())
                    if plan.residual_scale != 1.0:
                        x *= plan.residual_scale
            biases = [bias for bias in weights.skip_bias if bias is not None]
            if biases:
                skips = torch.addmm(torch.stack(biases).sum(dim=0).to(dtype), gated, skip.t())
            else:
                skips = gated @ skip.t()
            if plan.skip_scale != 1.0:
                skips *= plan.skip_scale
        ctx.plan, ctx.batch_size, ctx.blocks, ctx.skip = plan, batch_size, blocks, skip
        ctx.likes = [None if tensor is None else (tensor.shape, tensor.dtype) for tensor in tensors]
        # the weights too: autograd then notices if one is changed before the way back
        ctx.save_for_backward(
            condition, None if plan.checkpoint_activations else gated, *tensors, *kept
        )
        return skips

    @staticmethod
    def backward(ctx: Any, grad_skips: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "the training pass has no second derivatives: say stack.forward = stack.plain"
            )
        with torch.autocast(grad_skips.device.type, enabled=False):
            return _backward(ctx, grad_skips)


def _backward(ctx: Any, grad_skips: Tensor) -> tuple[Tensor | None, ...]:
    plan, blocks = ctx.plan, ctx.blocks
    condition, gated, *kept = ctx.saved_tensors
    kept = kept[len(ctx.likes) :]  # behind the weights
    count, width = len(blocks), len(ctx.skip)
    half = ctx.skip.shape[1] // count
    grad_skips = grad_skips.to(blocks[0].taps.dtype).contiguous()
    if plan.skip_scale != 1.0:
        grad_skips = grad_skips * plan.skip_scale
    new = grad_skips.new_empty
    gated_activation = plan.gated_activation(len(grad_skips), half, grad_skips)
    group = min(count, max(1, GROUP_BYTES // (half * grad_skips.element_size())))
    grad_zs = new(len(grad_skips), group * half)
    grad_condition = None if condition is None else torch.zeros_like(condition)
    grad_x: Tensor | None = None  # of the block's output: nothing reads the last one's
    # gradients of weights, those of a kind side by side
    taps = new(count, *blocks[0].taps.shape)
    biases: list[Tensor] = []
    besides = None if condition is None else new(count, 2 * half, condition.shape[1])
    residuals = new(count - 1, half + 1, blocks[0].taps.shape[2])  # the bias last
    skips = new(width, count * half) if gated is None else grad_skips.t() @ gated
    for index in reversed(range(count)):
        block, place = blocks[index], slice(index * half, (index + 1) * half)
        shifts = _shifts(plan.dilations[index] * ctx.batch_size, len(block.taps))
        mask = kept.pop() if plan.dropout else None
        y = None if plan.checkpoint_activations else kept.pop()
        x = kept.pop()
        seen = x if mask is None else x * mask
        if y is None:
            y = _convolved(seen, condition, block, shifts)
            z = gated_activation.forward(y, block.bias, new(len(y), half))
            skips[:, place] = grad_skips.t() @ z
        first = index - index % group
        if index == min(first + group, count) - 1:
            skip = ctx.skip[:, first * half : place.stop]
            torch.mm(grad_skips, skip, out=grad_zs[:, : skip.shape[1]])
        grad_z = grad_zs[:, (index - first) * half :][:, :half]
        if grad_x is not None:
            if plan.residual_scale != 1.0:
                grad_x *= plan.residual_scale
            grad_z.addmm_(grad_x, block.residual)
        grad_y, across, z_across, bias = gated_activation.backward(y, block.bias, grad_z)
        biases.append(bias)
        if grad_x is not None:
            torch.mm(z_across, grad_x, out=residuals[index])
        if besides is not None:
            torch.mm(across, condition, out=besides[index])
        _taps(across, seen, shifts, taps[index])
        grad_x = _down(grad_x, grad_y, block, shifts, mask)
        if grad_condition is not None:
            grad_condition.addmm_(grad_y, block.condition)
    found = (
        taps.permute(0, 2, 3, 1),
        torch.stack(biases[::-1]).sum(dim=1),
        besides,
        residuals[:, :half].transpose(1, 2),
        residuals[:, half],
        skips.view(width, count, half).transpose(0, 1),
        grad_skips.sum(dim=0).expand(count, -1),
    )
    apart = (
        grad
        for grads, likes in zip(found, _kinds(ctx.likes, count), strict=True)
        for grad in _apart(grads, likes)
    )
    return (grad_x, grad_condition, None, None, None, *apart)


def _taps(across: Tensor, seen: Tensor, shifts: Sequence[int], taps: Tensor) -> None:
    """Write the gradient of a dilated convolution's weight.

    Args:
        across: Gradient of its output, `(gate_channels, rows)`.
        seen: Its input, `(rows, C)`.
        shifts: Rows that each tap looks back.
        taps: Where to, `(kernel_size, gate_channels, C)`.
    """
    for tap, shift in zip(taps, shifts, strict=True):
        if shift < len(seen):
            torch.mm(across[:, shift:], seen[: len(seen) - shift], out=tap)
        else:
            tap.zero_()


def _down(
    grad_x: Tensor | None,
    grad_y: Tensor,
    block: BlockWeights,
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
    for first, last in _pieces(grad_y):
        for tap, shift in zip(block.taps, shifts, strict=True):
            stop = min(last, rows - shift)
            if first < stop:
                grad_seen[first:stop].addmm_(grad_y[first + shift : stop + shift], tap)
    return grad_x if mask is None else grad_x.addcmul_(grad_seen, mask)


def _rows(x: Tensor) -> Tensor:
    """Return `(B, C, T)` as rows of `C`, sample by sample, `(T * B, C)`."""
    return x.permute(2, 0, 1).reshape(-1, x.shape[1])


def _kinds(entries: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """Return what lies in a row as it was before: `count` entries of each kind."""
    return [entries[first : first + count] for first in range(0, len(entries), count)]


def _blocks(weights: StackWeights, dtype: torch.dtype) -> tuple[Tensor, list[BlockWeights]]:
    """Return the skip weights of all blocks side by side, and what each block computes with.

    What is of one kind is brought to its precision as one tensor.
    """
    taps = _stacked(weights.conv, dtype).permute(0, 3, 1, 2).contiguous()
    kinds = (
        taps.unbind(),
        weights.conv_bias,
        _placed(_stacked(weights.condition, dtype).squeeze(-1), weights.condition),
        _placed(_stacked(weights.residual, dtype).squeeze(-1), weights.residual),
        _placed(_stacked(weights.residual_bias, dtype), weights.residual_bias),
    )
    skip = _stacked(weights.skip, dtype).squeeze(-1).transpose(0, 1).flatten(1)
    return skip, [BlockWeights(*entries) for entries in zip(*kinds, strict=True)]


def _stacked(kind: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
    """Return those that are there, one behind the other, in a precision."""
    there = [tensor for tensor in kind if tensor is not None]
    return torch.stack(there).to(dtype) if there else torch.empty(0)


def _placed(stacked: Tensor, kind: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return what was stacked at the places where it was."""
    entries = iter(stacked.unbind())
    return [None if tensor is None else next(entries) for tensor in kind]


def _apart(grads: Tensor | None, likes: Sequence[Any]) -> list[Tensor | None]:
    """Return gradients in their weights' shape and precision, in contiguous memory of their own.

    Args:
        grads: One behind the other; the last block's may lack.
        likes: Shape and precision of each block's; absent where there is no weight.
    """
    like = next((like for like in likes if like is not None), None)
    if grads is None or like is None:
        return [None] * len(likes)
    shape, dtype = like
    entries = grads.reshape(len(grads), *shape).to(dtype).contiguous().unbind()
    pairs = zip_longest(entries, likes)
    return [None if wanted is None else entry for entry, wanted in pairs]


def _shifts(dilation: int, kernel_size: int) -> list[int]:
    """Return by how many rows each tap looks back, the oldest first."""
    return [dilation * back for back in range(kernel_size - 1, -1, -1)]


def _convolved(
    x: Tensor, condition: Tensor | None, block: BlockWeights, shifts: Sequence[int]
) -> Tensor:
    """Return what goes into the gate but for the bias, `(rows, gate_channels)`."""
    y = x.new_empty(len(x), block.taps.shape[1])
    for first, last in _pieces(y):
        torch.mm(x[first:last], block.taps[-1].t(), out=y[first:last])
        for tap, shift in zip(block.taps[:-1], shifts[:-1], strict=True):
            start = max(first, shift)
            if start < last:
                y[start:last].addmm_(x[start - shift : last - shift], tap.t())
        if condition is not None and block.condition is not None:
            y[first:last].addmm_(condition[first:last], block.condition.t())
    return y


def _pieces(sums: Tensor) -> list[tuple[int, int]]:
    """Return first and last row of the pieces in which a CPU adds up what comes to these rows."""
    rows = len(sums)
    size = rows
    if sums.device.type == "cpu":
        size = max(1, PIECE_BYTES // (sums.shape[1] * sums.element_size()))
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


def _mask(x: Tensor, dropout: float) -> Tensor | None:
    """Return what the input of a convolution is multiplied by: 0, or what makes up for zeros."""
    if not dropout:
        return None
    if dropout == 1.0:
        return torch.zeros_like(x)
    return torch.empty_like(x).bernoulli_(1 - dropout).div_(1 - dropout)
