"""A stack of standard residual blocks as one function, its forward and backward written out.

The numbers are those of the loop over the blocks in `ResidualStack.forward`; only the order of
computation differs:

- *Rows.* All products are matrix products over rows, see `rows.py`.
- *Skips.* The gated activations of all blocks lie side by side, and one product sums all skips; in
  the backward pass one product serves a few blocks.
- *Biases.* The gated activation adds those of the dilated convolutions and sums their gradients,
  since it reads all rows anyway.
- *Memory.* Each block's input, the input of its gate and the gate's output are kept for the
  backward pass; with `checkpoint_activations`, only the block's input.

Under autocast everything, the path from block to block too, has autocast's precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavenet.modules.rows import (
    BlockWeights,
    GatedActivation,
    as_rows,
    convolve_rows,
    dropout_mask,
    input_gradient,
    write_tap_gradients,
)

SKIP_GROUP_BYTES = 512  # of a row of gradients computed at once: more would leave the cache


@dataclass(frozen=True)
class StackSpec:
    """What fixes the computation of a `ResidualStack` besides its tensors: its attributes."""

    dilations: tuple[int, ...]
    dropout: float
    residual_scale: float
    skip_scale: float
    gated_activation: type[GatedActivation]
    checkpoint_activations: bool


class StackWeights(NamedTuple):
    """A stack's tensors by kind, each with an entry per block; absent ones are `None`."""

    conv: Sequence[Tensor | None]  # (gate_channels, residual_channels, kernel_size)
    conv_bias: Sequence[Tensor | None]
    conditioning: Sequence[Tensor | None]  # (gate_channels, conditioning_channels, 1)
    residual: Sequence[Tensor | None]  # (residual_channels, gate_channels / 2, 1)
    residual_bias: Sequence[Tensor | None]
    skip: Sequence[Tensor | None]  # (skip_channels, gate_channels / 2, 1)
    skip_bias: Sequence[Tensor | None]


def fused_stack(
    x: Tensor, conditioning: Tensor | None, spec: StackSpec, weights: StackWeights
) -> Tensor:
    """Return the sum of the skips, `(B, skip_channels, T)`.

    Args:
        x: Input of the first block, `(B, residual_channels, T)`.
        conditioning: Of every sample, `(B, conditioning_channels, T)`.
        spec: What fixes the computation besides the tensors.
        weights: The stack's tensors.

    Raises:
        ValueError: `conditioning` is missing, of another shape, or the stack has none.
    """
    batch_size, _, length = x.shape
    projection = weights.conditioning[0]
    wanted = None if projection is None else (batch_size, projection.shape[1], length)
    found = None if conditioning is None else tuple(conditioning.shape)
    if found != wanted:
        raise ValueError(f"conditioning must be {wanted or 'left out'}, got {found or 'none'}")
    rows = as_rows(x), None if conditioning is None else as_rows(conditioning)
    tensors = [tensor for kind in weights for tensor in kind]
    keep = torch.is_grad_enabled()
    skips: Tensor = FusedStackFunction.apply(*rows, batch_size, spec, keep, *tensors)
    return skips.view(length, batch_size, skips.shape[1]).permute(1, 2, 0)


class FusedStackFunction(torch.autograd.Function):
    """`fused_stack` on rows, for autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        conditioning: Tensor | None,
        batch_size: int,
        spec: StackSpec,
        keep: bool,
        *tensors: Tensor | None,
    ) -> Tensor:
        device, dtype = x.device.type, x.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            weights = StackWeights(*_split_by_kind(tensors, len(spec.dilations)))
            skip_weight, blocks = _prepare(weights, dtype, spec.dilations, batch_size)
            conditioning = None if conditioning is None else conditioning.to(dtype)
            gated, kept = _forward_blocks(x.to(dtype), conditioning, spec, blocks, keep)
            skips = _sum_skips(gated, skip_weight, weights.skip_bias)
            if spec.skip_scale != 1.0:
                skips *= spec.skip_scale
        ctx.spec, ctx.blocks, ctx.skip_weight = spec, blocks, skip_weight
        ctx.formats = [None if w is None else (w.shape, w.dtype) for w in tensors]
        if keep:
            gated_or_none = None if spec.checkpoint_activations else gated
            # the weights too: autograd then notices if one is changed before the backward pass
            ctx.save_for_backward(conditioning, gated_or_none, *tensors, *kept)
        return skips

    @staticmethod
    def backward(ctx: Any, grad_skips: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "the fused stack has no second derivatives: set stack.fused = False to run the "
                "ResidualStack block by block"
            )
        with torch.autocast(grad_skips.device.type, enabled=False):
            return _backward(ctx, grad_skips)


def _forward_blocks(
    x: Tensor,
    conditioning: Tensor | None,
    spec: StackSpec,
    blocks: Sequence[BlockWeights],
    keep: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Return the gated activations of all blocks side by side, and what the backward pass needs."""
    width = blocks[0].taps.shape[1] // 2
    gated_activation = spec.gated_activation(len(x), width, x)
    gated = x.new_empty(len(x), len(blocks) * width)
    kept: list[Tensor] = []
    for index, block in enumerate(blocks):
        mask = dropout_mask(x, spec.dropout)
        y = convolve_rows(x if mask is None else x * mask, conditioning, block)
        z = gated_activation.forward(y, block.bias, gated[:, index * width : (index + 1) * width])
        if keep:
            gate_input = [] if spec.checkpoint_activations else [y]
            kept += [x, *gate_input, *([] if mask is None else [mask])]
        if block.residual is not None:
            x = x.clone() if block.residual_bias is None else x + block.residual_bias
            x.addmm_(z, block.residual.t())
            if spec.residual_scale != 1.0:
                x *= spec.residual_scale
    return gated, kept


def _backward(ctx: Any, grad_skips: Tensor) -> tuple[Tensor | None, ...]:
    spec, blocks = ctx.spec, ctx.blocks
    conditioning, gated, *kept = ctx.saved_tensors
    kept = kept[len(ctx.formats) :]  # after the weights
    grad_skips = grad_skips.to(blocks[0].taps.dtype).contiguous()
    if spec.skip_scale != 1.0:
        grad_skips = grad_skips * spec.skip_scale
    through_skips = _GradientsThroughSkips(grad_skips, ctx.skip_weight, len(blocks))
    gated_activation = spec.gated_activation(len(grad_skips), through_skips.width, grad_skips)
    grads = _WeightGradients(grad_skips, conditioning, gated, blocks)
    grad_conditioning = None if conditioning is None else torch.zeros_like(conditioning)
    grad_x: Tensor | None = None  # of the block's output: nothing reads the last one's
    for index in reversed(range(len(blocks))):
        block = blocks[index]
        mask = kept.pop() if spec.dropout else None
        y = None if spec.checkpoint_activations else kept.pop()
        x = kept.pop()
        seen = x if mask is None else x * mask
        if y is None:
            y = convolve_rows(seen, conditioning, block)
            z = gated_activation.forward(y, block.bias, x.new_empty(len(y), through_skips.width))
            columns = slice(index * grads.width, (index + 1) * grads.width)
            grads.skips[:, columns] = grad_skips.t() @ z
        grad_z = through_skips.of_block(index)
        if grad_x is not None:
            if spec.residual_scale != 1.0:
                grad_x *= spec.residual_scale
            grad_z.addmm_(grad_x, block.residual)
        grad_y, grad_y_t, z_t, grad_bias = gated_activation.backward(y, block.bias, grad_z)
        grads.biases.append(grad_bias)
        if grad_x is not None:
            torch.mm(z_t, grad_x, out=grads.residuals[index])
        write_tap_gradients(grad_y_t, seen, block.delays, grads.taps[index])
        grad_x = input_gradient(grad_x, grad_y, block, mask)
        if grad_conditioning is not None and grads.conditioning is not None:
            torch.mm(grad_y_t, conditioning, out=grads.conditioning[index])
            grad_conditioning.addmm_(grad_y, block.conditioning)
    return (grad_x, grad_conditioning, None, None, None, *grads.per_weight(grad_skips, ctx.formats))


class _GradientsThroughSkips:
    """Gradients of the gated activations through the skips, computed for a few blocks at once."""

    def __init__(self, grad_skips: Tensor, skip_weight: Tensor, count: int) -> None:
        self.grad_skips, self.skip_weight = grad_skips, skip_weight
        self.width = skip_weight.shape[1] // count
        row_bytes = self.width * grad_skips.element_size()
        self.group = min(count, max(1, SKIP_GROUP_BYTES // row_bytes))
        self.grads = grad_skips.new_empty(len(grad_skips), self.group * self.width)
        self.first = count  # block of the group that is computed

    def of_block(self, index: int) -> Tensor:
        """Return a block's gradient, `(rows, width)`, to be changed in place; last block first."""
        if index < self.first:
            last, self.first = self.first, index - index % self.group
            columns = self.skip_weight[:, self.first * self.width : last * self.width]
            torch.mm(self.grad_skips, columns, out=self.grads[:, : columns.shape[1]])
        return self.grads[:, (index - self.first) * self.width :][:, : self.width]


class _WeightGradients:
    """Gradients of a stack's weights: one tensor per kind, with an entry per block."""

    def __init__(
        self,
        grad_skips: Tensor,
        conditioning: Tensor | None,
        gated: Tensor | None,
        blocks: Sequence[BlockWeights],
    ) -> None:
        new, count = grad_skips.new_empty, len(blocks)
        _, gate_channels, residual_channels = blocks[0].taps.shape
        self.width = gate_channels // 2
        self.taps = new(count, *blocks[0].taps.shape)
        self.biases: list[Tensor] = []  # of the last block first
        self.conditioning = None
        if conditioning is not None:
            self.conditioning = new(count, gate_channels, conditioning.shape[1])
        self.residuals = new(count - 1, self.width + 1, residual_channels)  # the bias last
        if gated is None:  # recomputed block by block
            self.skips = new(grad_skips.shape[1], count * self.width)
        else:
            self.skips = grad_skips.t() @ gated

    def per_weight(self, grad_skips: Tensor, formats: Sequence[Any]) -> list[Tensor | None]:
        """Return the gradient of each tensor in the order of `StackWeights`."""
        count = len(self.biases)
        by_kind = (
            self.taps.permute(0, 2, 3, 1),
            torch.stack(self.biases[::-1]).sum(dim=1),
            self.conditioning,
            self.residuals[:, : self.width].transpose(1, 2),
            self.residuals[:, self.width],
            self.skips.view(-1, count, self.width).transpose(0, 1),
            grad_skips.sum(dim=0).expand(count, -1),
        )
        pairs = zip(by_kind, _split_by_kind(formats, count), strict=True)
        return [grad for grads, formats in pairs for grad in _per_block(grads, formats)]


def _sum_skips(gated: Tensor, weight: Tensor, biases: Sequence[Tensor | None]) -> Tensor:
    present = [bias for bias in biases if bias is not None]
    if not present:
        return gated @ weight.t()
    return torch.addmm(torch.stack(present).sum(dim=0).to(gated.dtype), gated, weight.t())


def _prepare(
    weights: StackWeights, dtype: torch.dtype, dilations: Sequence[int], batch_size: int
) -> tuple[Tensor, list[BlockWeights]]:
    """Return the skip weights of all blocks side by side, and what each block computes with.

    All tensors of a kind are converted to `dtype` as one tensor.
    """
    taps = _stack_present(weights.conv, dtype).permute(0, 3, 1, 2).contiguous()
    by_kind: list[Sequence[Any]] = [taps.unbind(), weights.conv_bias]
    for kind in (weights.conditioning, weights.residual, weights.residual_bias):
        stacked = _stack_present(kind, dtype)
        matrices = iter((stacked.squeeze(-1) if stacked.dim() == 4 else stacked).unbind())
        by_kind.append([None if tensor is None else next(matrices) for tensor in kind])
    tap_rows = [back * batch_size for back in reversed(range(taps.shape[1]))]
    by_kind.append([[rows * dilation for rows in tap_rows] for dilation in dilations])
    skip = _stack_present(weights.skip, dtype).squeeze(-1).transpose(0, 1).flatten(1)
    return skip, [BlockWeights(*entries) for entries in zip(*by_kind, strict=True)]


def _stack_present(kind: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
    present = [tensor for tensor in kind if tensor is not None]
    return torch.stack(present).to(dtype) if present else torch.empty(0)


def _per_block(grads: Tensor | None, formats: Sequence[Any]) -> list[Tensor | None]:
    """Return the gradients of one kind in the shape and precision of each block's weight.

    Each is in memory of its own, and `None` where a block has no such weight.
    """
    present = next((entry for entry in formats if entry is not None), None)
    if grads is None or present is None:
        return [None] * len(formats)
    shape, dtype = present
    entries = grads.reshape(len(grads), *shape).to(dtype).contiguous().unbind()
    pairs = zip_longest(entries, formats)
    return [None if wanted is None else entry for entry, wanted in pairs]


def _split_by_kind(entries: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """Return a flat sequence of `StackWeights`, `count` blocks, as a sequence per kind."""
    return [entries[first : first + count] for first in range(0, len(entries), count)]
