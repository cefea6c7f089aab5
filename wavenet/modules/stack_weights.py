"""The weights of a stack as the fused function computes with them, and their gradients.

A kind of weight, such as all skip convolutions, is one tensor there: it is converted at once, and
so are its gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavenet.modules.rows import BlockWeights, MakeGatedActivation, Matmul


@dataclass(frozen=True)
class StackSpec:
    """What fixes the computation of a `ResidualStack` besides its tensors: its attributes."""

    dilations: tuple[int, ...]
    causal: bool
    dropout: float
    residual_scale: float
    skip_scale: float
    gated_activation: MakeGatedActivation
    matmul: Matmul
    checkpoint_activations: bool

    def delays(self, kernel_size: int) -> list[list[int]]:
        """Return for each block how many samples its taps look back, the oldest tap first."""
        oldest = kernel_size - 1 if self.causal else (kernel_size - 1) // 2
        taps = [oldest - tap for tap in range(kernel_size)]
        return [[tap * dilation for tap in taps] for dilation in self.dilations]


class StackWeights(NamedTuple):
    """A stack's tensors by kind, each with an entry per block; absent ones are `None`."""

    conv: Sequence[Tensor | None]  # (gate_channels, residual_channels, kernel_size)
    conv_bias: Sequence[Tensor | None]
    conditioning: Sequence[Tensor | None]  # (gate_channels, conditioning_channels, 1)
    residual: Sequence[Tensor | None]  # (residual_channels, gate_channels / 2, 1)
    residual_bias: Sequence[Tensor | None]
    skip: Sequence[Tensor | None]  # (skip_channels, gate_channels / 2, 1)
    skip_bias: Sequence[Tensor | None]


class WeightGradients:
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
            self.skips = new(grad_skips.shape[1], gated.shape[1])
            blocks[0].matmul(grad_skips.t(), gated, self.skips)

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
        pairs = zip(by_kind, split_by_kind(formats, count), strict=True)
        return [grad for grads, formats in pairs for grad in _per_block(grads, formats)]


def prepare(
    weights: StackWeights, dtype: torch.dtype, spec: StackSpec, batch_size: int
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
    delays = spec.delays(taps.shape[1])
    by_kind.append([[samples * batch_size for samples in block] for block in delays])
    skip = _stack_present(weights.skip, dtype).squeeze(-1).transpose(0, 1).flatten(1)
    by_kind.append([spec.matmul] * len(delays))
    return skip, [BlockWeights(*entries) for entries in zip(*by_kind, strict=True)]


def split_by_kind(entries: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """Return a flat sequence of `StackWeights`, `count` blocks, as a sequence per kind."""
    return [entries[first : first + count] for first in range(0, len(entries), count)]


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
