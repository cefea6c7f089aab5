"""The formula of the fused stack in differentiable steps, for second derivatives.

`create_graph=True` asks for gradients that can be differentiated again. The fused stack's backward
pass overwrites what it works on, so the gradients are then those of this formula, which autograd
can follow. It computes on the same rows with the same values dropped.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.modules.stack_weights import StackSpec, split_by_kind


def differentiable_gradients(
    inputs: Sequence[Tensor | None],
    drops: Sequence[Tensor],
    batch_size: int,
    spec: StackSpec,
    grad_skips: Tensor,
) -> list[Tensor | None]:
    """Return the gradient of each input, with a graph.

    Args:
        inputs: The fused function's tensors: x, conditioning, mask, steps, then the weights.
        drops: The dropout mask of each block, if there are any.
        batch_size: Rows of each sample.
        spec: What fixes the computation besides the tensors.
        grad_skips: Gradient of the skip sum, `(rows, skip_channels)`.
    """
    keep_graph = torch.is_grad_enabled()
    # Views: a gradient must not flow from one input on to another that it was computed from.
    with torch.enable_grad():
        own = [None if tensor is None else tensor.view_as(tensor) for tensor in inputs]
        wanted = [tensor for tensor in own if tensor is not None and tensor.requires_grad]
        skips = _skip_sum(own, drops, batch_size, spec)
    found = iter(
        torch.autograd.grad(skips, wanted, grad_skips, create_graph=keep_graph, allow_unused=True)
    )
    return [next(found) if t is not None and t.requires_grad else None for t in own]


def _skip_sum(
    inputs: Sequence[Tensor | None], drops: Sequence[Tensor], batch_size: int, spec: StackSpec
) -> Tensor:
    """Return the sum of the skips, `(rows, skip_channels)`."""
    x, conditioning, mask, steps, *tensors = inputs
    assert x is not None
    weights = [None if tensor is None else tensor.to(x.dtype) for tensor in tensors]
    kinds = split_by_kind(weights, len(spec.dilations))
    delays = spec.delays(kinds[0][0].shape[2])
    total = x.new_zeros(())
    for index, entries in enumerate(zip(*kinds, strict=True)):
        conv, conv_bias, projection, residual, residual_bias, skip, skip_bias = entries
        seen = x * drops[index] if drops else x
        if steps is not None:
            by_item = seen.view(len(x) // max(1, batch_size), batch_size, x.shape[1])
            seen = (by_item + steps[index]).flatten(0, 1)
        rows = [samples * batch_size for samples in delays[index]]
        past = torch.cat([_delayed(seen, delay) for delay in rows], dim=1)
        y = _linear(past, conv.transpose(1, 2).flatten(1), conv_bias)
        if projection is not None and conditioning is not None:
            y = y + _linear(conditioning, projection)
        tanh, sigmoid = y.chunk(2, dim=1)
        z = tanh.tanh() * sigmoid.sigmoid()
        total = total + _linear(z, skip, skip_bias)
        if residual is not None:
            x = _masked((x + _linear(z, residual, residual_bias)) * spec.residual_scale, mask)
    return _masked(total * spec.skip_scale, mask)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight.flatten(1), bias)


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def _delayed(x: Tensor, rows: int) -> Tensor:
    """Return the rows that come `rows` before each; zeros where there are none."""
    if rows < 0:
        return F.pad(x, (0, 0, 0, -rows))[-rows:]
    return F.pad(x, (0, 0, rows, 0))[: len(x)]
