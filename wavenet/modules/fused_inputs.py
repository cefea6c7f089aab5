"""The options of a stack in the one form that the fused function knows.

- A conditioning that all blocks share: each block's projection is a part of its weight.
- A conditioning of one sample: projected, it is a matrix whose columns are the items of the batch,
  and the conditioning of each sample is one-hot.
- Sigmoid first: the two halves of what makes the gate's input change places.
- A vector per item, such as the embedding of a diffusion step: projected for all blocks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules.checks import check_signal, check_vector
from wavenet.modules.fused_stack import fused_stack
from wavenet.modules.residual_block import ResidualBlock
from wavenet.modules.stack_weights import StackSpec, StackWeights


def fused_forward(
    x: Tensor,
    conditioning: Tensor | None,
    mask: Tensor | None,
    step_embedding: Tensor | None,
    blocks: Sequence[ResidualBlock],
    shared: nn.Conv1d | None,
    spec: StackSpec,
    weights: StackWeights,
) -> Tensor:
    """Return the sum of the skips, `(B, skip_channels, T)`, of standard blocks.

    Args:
        x: `(B, residual_channels, T)`.
        conditioning: `(B, conditioning_channels, T)`, or with one sample for all.
        mask: `(B, 1, T)`.
        step_embedding: `(B, step_channels)`.
        blocks: The blocks.
        shared: The projection of the conditioning for all blocks, if they share it.
        spec: What fixes the computation besides the tensors.
        weights: The weights of the blocks.

    Raises:
        ValueError: An input is missing, unused, or of another shape.
    """
    if x.shape[1] != (width := blocks[0].conv.in_channels):
        raise ValueError(f"the stack's input must be (B, {width}, T), got {tuple(x.shape)}")
    own, linear = blocks[0].conditioning_conv, blocks[0].step_projection
    projection = own if shared is None else shared
    check_signal(
        "conditioning", conditioning, None if projection is None else projection.in_channels, x
    )
    check_vector(
        "step_embedding", step_embedding, None if linear is None else linear.in_features, x
    )
    if mask is not None:
        check_signal("mask", mask, 1, x)
        mask = mask.expand(-1, -1, x.shape[2])
    if conditioning is not None:
        weights, conditioning = _with_conditioning(weights, conditioning, shared, x.shape[2])
    if blocks[0].gate == "sigmoid*tanh":
        weights = _with_tanh_first(weights)
    steps = None if step_embedding is None else _project_steps(blocks, step_embedding)
    return fused_stack(x, conditioning, spec, weights, mask=mask, steps=steps)


def _with_conditioning(
    weights: StackWeights, conditioning: Tensor, shared: nn.Conv1d | None, length: int
) -> tuple[StackWeights, Tensor]:
    """Return weights with a projection for each block, and the conditioning of all samples."""
    is_vector = conditioning.shape[2] == 1 and length > 1
    if shared is None:
        if not is_vector:
            return weights, conditioning
        projections = torch.stack([w for w in weights.conditioning if w is not None]).squeeze(-1)
    else:
        projections = shared.weight.view(len(weights.conv), -1, shared.in_channels)
        if shared.bias is not None:
            biases = shared.bias.view(len(weights.conv), -1).unbind()
            pairs = zip(weights.conv_bias, biases, strict=True)
            added = [bias if own is None else own + bias for own, bias in pairs]
            weights = weights._replace(conv_bias=added)
    if is_vector:
        items = torch.eye(len(conditioning), dtype=conditioning.dtype, device=conditioning.device)
        projections = projections @ conditioning.squeeze(2).t()
        conditioning = items.unsqueeze(2).expand(-1, -1, length)
    return weights._replace(conditioning=projections.unsqueeze(-1).unbind()), conditioning


def _with_tanh_first(weights: StackWeights) -> StackWeights:
    kinds = {
        name: [None if tensor is None else _exchange_halves(tensor) for tensor in kind]
        for name, kind in weights._asdict().items()
        if name in ("conv", "conv_bias", "conditioning")
    }
    return weights._replace(**kinds)


def _exchange_halves(weight: Tensor) -> Tensor:
    return weight.roll(len(weight) // 2, dims=0)


def _project_steps(blocks: Sequence[ResidualBlock], step_embedding: Tensor) -> Tensor:
    """Return the vector per item that is added to each block's input, `(blocks, B, C)`."""
    linears = [block.step_projection for block in blocks]
    return torch.stack(
        [F.linear(step_embedding, linear.weight, linear.bias) for linear in linears if linear]
    )
