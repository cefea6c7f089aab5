"""A stack of standard residual blocks as one function, its forward and backward written out.

The numbers are those of the loop over the blocks in `ResidualStack.forward`; only the order of
computation differs:

- *Rows.* All products are matrix products over rows, see `rows.py`.
- *Skips.* The gated activations of all blocks lie side by side, and one product sums all skips; in
  the backward pass one product serves a few blocks.
- *Biases.* The gated activation adds those of the dilated convolutions and sums their gradients,
  since it reads all rows anyway.
- *Conditioning of one sample* is one vector per item: its projection is a matrix whose columns are
  the items, and the rows are one-hot.
- *Memory.* The input of each dilated convolution, the input of its gate and the gate's output are
  kept for the backward pass; with `checkpoint_activations`, only the first of them.

Under autocast everything, the path from block to block too, has autocast's precision.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wavenet.modules.fusable import is_transformed
from wavenet.modules.rows import (
    BlockWeights,
    add_input_gradient,
    as_rows,
    convolve_rows,
    dropout_mask,
    finite_rows,
    write_tap_gradients,
)
from wavenet.modules.stack_formula import differentiable_gradients
from wavenet.modules.stack_weights import (
    StackSpec,
    StackWeights,
    WeightGradients,
    prepare,
    split_by_kind,
)

SKIP_GROUP_BYTES = 512  # of a row of gradients computed at once: more would leave the cache


def fused_stack(
    x: Tensor,
    conditioning: Tensor | None,
    spec: StackSpec,
    weights: StackWeights,
    *,
    mask: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Return the sum of the skips, `(B, skip_channels, T)`.

    Args:
        x: Input of the first block, `(B, residual_channels, T)`.
        conditioning: Of every sample, `(B, conditioning_channels, T)`.
        spec: What fixes the computation besides the tensors.
        weights: The stack's tensors.
        mask: Factor on the residual outputs and on the sum of the skips, `(B, 1, T)`.
        steps: Added to the input of each block's convolution, `(blocks, B, residual_channels)`.
    """
    batch_size, _, length = x.shape
    device, dtype = x.device.type, x.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    rows = [
        None if signal is None else as_rows(signal).to(dtype) for signal in (x, conditioning, mask)
    ]
    tensors = [tensor for kind in weights for tensor in kind]
    keep = torch.is_grad_enabled()
    steps = None if steps is None else steps.to(dtype)
    skips: Tensor = FusedStackFunction.apply(*rows, steps, batch_size, spec, keep, *tensors)
    return skips.view(length, batch_size, skips.shape[1]).permute(1, 2, 0)


class FusedStackFunction(torch.autograd.Function):
    """`fused_stack` on rows in the precision of the computation, for autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        conditioning: Tensor | None,
        mask: Tensor | None,
        steps: Tensor | None,
        batch_size: int,
        spec: StackSpec,
        keep: bool,
        *tensors: Tensor | None,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weights = StackWeights(*split_by_kind(tensors, len(spec.dilations)))
            skip_weight, blocks = prepare(weights, x.dtype, spec, batch_size)
            gated, drops, kept = _forward_blocks(x, conditioning, mask, steps, spec, blocks, keep)
            skips = _sum_skips(gated, skip_weight, weights.skip_bias, spec)
            _multiply(skips, spec.skip_scale, mask)
        ctx.spec, ctx.blocks, ctx.skip_weight, ctx.batch_size = (
            spec,
            blocks,
            skip_weight,
            batch_size,
        )
        ctx.formats = [None if w is None else (w.shape, w.dtype) for w in tensors]
        if keep:
            inputs = None if kept[0] is x else x, conditioning, mask, steps
            gated_or_none = None if spec.checkpoint_activations else gated
            # the weights too: autograd then notices if one is changed before the backward pass
            ctx.save_for_backward(*inputs, *tensors, gated_or_none, *drops, *kept)
        return skips

    @staticmethod
    def backward(ctx: Any, grad_skips: Tensor) -> tuple[Tensor | None, ...]:
        saved = list(ctx.saved_tensors)
        inputs = [saved.pop(0) for _ in range(4 + len(ctx.formats))]
        gated = saved.pop(0)
        drops = [saved.pop(0) for _ in ctx.blocks] if ctx.spec.dropout else []
        if inputs[0] is None:
            inputs[0] = saved[0]
        with torch.autocast(grad_skips.device.type, enabled=False):
            if torch.is_grad_enabled() or is_transformed(grad_skips):  # create_graph=True, vmap
                grads = differentiable_gradients(
                    inputs, drops, ctx.batch_size, ctx.spec, grad_skips
                )
            else:
                grads = _backward(ctx, grad_skips, inputs, gated, drops, saved)
        return (*grads[:4], None, None, None, *grads[4:])


def _forward_blocks(
    x: Tensor,
    conditioning: Tensor | None,
    mask: Tensor | None,
    steps: Tensor | None,
    spec: StackSpec,
    blocks: Sequence[BlockWeights],
    keep: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the gated activations of all blocks side by side, and what the backward pass needs.

    That is the dropout masks, and of each block what it keeps.
    """
    width = blocks[0].taps.shape[1] // 2
    gated_activation = spec.gated_activation(len(x), width, x)
    gated = finite_rows(x, len(blocks) * width)
    drops: list[Tensor] = []
    kept: list[Tensor] = []
    for index, block in enumerate(blocks):
        drop = dropout_mask(x, spec.dropout)
        seen = x if drop is None else x * drop
        if steps is not None:
            seen = (_by_item(seen, steps[index]) + steps[index]).view(x.shape)
        y = convolve_rows(seen, conditioning, block)
        z = gated_activation.forward(y, block.bias, gated[:, index * width : (index + 1) * width])
        if keep:
            drops += [] if drop is None else [drop]
            kept += [seen, *([] if spec.checkpoint_activations else [y])]
        if block.residual is not None:
            x = x.clone() if block.residual_bias is None else x + block.residual_bias
            block.matmul(z, block.residual.t(), x, add=True)
            _multiply(x, spec.residual_scale, mask)
    return gated, drops, kept


def _backward(
    ctx: Any,
    grad_skips: Tensor,
    inputs: Sequence[Tensor | None],
    gated: Tensor | None,
    drops: list[Tensor],
    kept: list[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of the inputs: x, conditioning, mask, steps, then the weights."""
    spec, blocks = ctx.spec, ctx.blocks
    _, conditioning, mask, steps, *_ = inputs
    grad_skips = grad_skips.contiguous()
    if spec.skip_scale != 1.0 or mask is not None:
        grad_skips = _multiply(grad_skips.clone(), spec.skip_scale, mask)
    through_skips = _GradientsThroughSkips(grad_skips, ctx.skip_weight, len(blocks), spec)
    gated_activation = spec.gated_activation(len(grad_skips), through_skips.width, grad_skips)
    grads = WeightGradients(grad_skips, conditioning, gated, blocks)
    grad_conditioning = None
    if conditioning is not None and ctx.needs_input_grad[1]:
        grad_conditioning = torch.zeros_like(conditioning)
    grad_steps = None if steps is None else torch.empty_like(steps)
    grad_x: Tensor | None = None  # of the block's output: nothing reads the last one's
    for index in reversed(range(len(blocks))):
        block = blocks[index]
        y = None if spec.checkpoint_activations else kept.pop()
        seen = kept.pop()
        if y is None:
            y = convolve_rows(seen, conditioning, block)
            z = gated_activation.forward(y, block.bias, y.new_empty(len(y), through_skips.width))
            columns = slice(index * grads.width, (index + 1) * grads.width)
            block.matmul(grad_skips.t(), z, grads.skips[:, columns])
        grad_z = through_skips.of_block(index)
        if grad_x is not None:
            _multiply(grad_x, spec.residual_scale, mask)
            block.matmul(grad_x, block.residual, grad_z, add=True)
        grad_y, grad_y_t, z_t, grad_bias = gated_activation.backward(y, block.bias, grad_z)
        grads.biases.append(grad_bias)
        if grad_x is not None:
            block.matmul(z_t, grad_x, grads.residuals[index])
        write_tap_gradients(grad_y_t, seen, block, grads.taps[index])
        drop = drops.pop() if drops else None
        grad_step = None if grad_steps is None else grad_steps[index]
        grad_x = _input_gradient(grad_x, grad_y, block, drop, grad_step)
        if conditioning is not None:
            block.matmul(grad_y_t, conditioning, grads.conditioning[index])  # type: ignore[index]
        if grad_conditioning is not None and block.conditioning is not None:
            block.matmul(grad_y, block.conditioning, grad_conditioning, add=True)
    by_weight = grads.per_weight(grad_skips, ctx.formats)
    return [grad_x, grad_conditioning, None, grad_steps, *by_weight]


def _input_gradient(
    grad_x: Tensor | None,
    grad_y: Tensor,
    block: BlockWeights,
    drop: Tensor | None,
    grad_step: Tensor | None,
) -> Tensor:
    """Return the gradient of a block's input from those of its output and its convolution's.

    `grad_x`, that of its output, is changed in place; that of the step is written to `grad_step`.
    """
    if grad_x is None:
        grad_x = grad_y.new_zeros(len(grad_y), block.taps.shape[2])
    if drop is None and grad_step is None:
        add_input_gradient(grad_x, grad_y, block)
        return grad_x
    grad_seen = torch.zeros_like(grad_x)
    add_input_gradient(grad_seen, grad_y, block)
    if grad_step is not None:
        torch.sum(_by_item(grad_seen, grad_step), dim=0, out=grad_step)
    return grad_x.add_(grad_seen) if drop is None else grad_x.addcmul_(grad_seen, drop)


def _by_item(rows: Tensor, step: Tensor) -> Tensor:
    """Return rows as `(T, B, C)`; `step` is `(B, C)`."""
    return rows.view(len(rows) // max(1, len(step)), *step.shape)


def _multiply(rows: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Multiply rows by a number and by a mask, in place."""
    if scale != 1.0:
        rows *= scale
    if mask is not None:
        rows *= mask
    return rows


class _GradientsThroughSkips:
    """Gradients of the gated activations through the skips, computed for a few blocks at once."""

    def __init__(
        self, grad_skips: Tensor, skip_weight: Tensor, count: int, spec: StackSpec
    ) -> None:
        self.grad_skips, self.skip_weight, self.matmul = grad_skips, skip_weight, spec.matmul
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
            self.matmul(self.grad_skips, columns, self.grads[:, : columns.shape[1]])
        return self.grads[:, (index - self.first) * self.width :][:, : self.width]


def _sum_skips(
    gated: Tensor, weight: Tensor, biases: Sequence[Tensor | None], spec: StackSpec
) -> Tensor:
    present = [bias for bias in biases if bias is not None]
    skips = gated.new_empty(len(gated), len(weight))
    if present:
        skips[:] = torch.stack(present).sum(dim=0)
    spec.matmul(gated, weight.t(), skips, add=bool(present))
    return skips
