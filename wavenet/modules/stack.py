"""Residual blocks over a list of dilations, and the sum of what they skip.

Dilations that double from block to block make the receptive field grow exponentially with depth.
WaveNet, section 2.1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules.residual import ResidualBlock


class ResidualStack(nn.Module):
    """`ResidualBlock`s one after the other; the sum of their skip outputs is the output.

    Args:
        dilations: Samples between taps, one entry a block.
        residual_channels: Width from block to block, and of the input.
        gate_channels: Width of the dilated convolutions, tanh and sigmoid halves together.
        skip_channels: Width of the output.
        kernel_size: Taps of the dilated convolutions.
        bias: Whether convolutions have biases.
        dropout: Probability of dropping an input of a dilated convolution in training.
        residual_scale: Factor on each block's sum of input and residual.
        skip_scale: Factor on the sum of the skips.
        condition_channels: Width of the condition; 0 for none.

    Shape:
        - Input: `(B, residual_channels, T)`, and the condition, `(B, condition_channels, T)`
        - Output: `(B, skip_channels, T)`
    """

    def __init__(
        self,
        dilations: Sequence[int],
        residual_channels: int,
        gate_channels: int,
        skip_channels: int,
        kernel_size: int = 2,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        residual_scale: float = 1.0,
        skip_scale: float = 1.0,
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        self.skip_scale = skip_scale
        self.blocks = nn.ModuleList(
            ResidualBlock(
                residual_channels,
                gate_channels,
                skip_channels,
                kernel_size,
                dilation,
                bias=bias,
                dropout=dropout,
                residual_scale=residual_scale,
                last=index == len(dilations) - 1,
                condition_channels=condition_channels,
            )
            for index, dilation in enumerate(dilations)
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        # Channels last, a convolution is one matrix product over all samples, and the skip products
        # of all blocks together are another: a few large ones, where the plain sum has many small.
        x = x.transpose(1, 2)
        beside = None if condition is None else condition.transpose(1, 2).contiguous()
        gates = []
        for block in self._blocks():
            x, z = block.gated(x, block.dropout(x), beside)
            gates.append(z)
        skips = [block.skip for block in self._blocks()]
        weight = torch.cat([skip.weight.squeeze(-1) for skip in skips], dim=1)
        biases = [skip.bias for skip in skips if skip.bias is not None]
        bias = _sum(biases) if biases else None
        return F.linear(torch.cat(gates, dim=-1), weight, bias).transpose(1, 2) * self.skip_scale

    def new_queues(self, batch_size: int) -> list[Tensor]:
        """Return the silence before the first sample, a queue a block."""
        return [block.new_queue(batch_size) for block in self._blocks()]

    def fill(
        self, queues: list[Tensor], x: Tensor, position: int, condition: Tensor | None = None
    ) -> None:
        """Put the end of every block's input in its queue; `x` ends at sample `position - 1`."""
        x = x.transpose(1, 2)
        beside = None if condition is None else condition.transpose(1, 2)
        for block, queue in zip(self._blocks(), queues, strict=True):
            block.conv.fill(queue, x.transpose(1, 2), position)
            x, _ = block.gated(x, x, beside)

    def step(
        self, x: Tensor, queues: list[Tensor], position: int, condition: Tensor | None = None
    ) -> Tensor:
        """Return output sample `position`, `(B, skip_channels)`; the queues move on."""
        skips: Tensor | None = None
        for block, queue in zip(self._blocks(), queues, strict=True):
            x, skip = block.step(x, queue, position, condition)
            skips = skip if skips is None else skips + skip
        assert skips is not None
        return skips * self.skip_scale

    def _blocks(self) -> list[ResidualBlock]:
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]


def _sum(biases: Sequence[Tensor]) -> Tensor:
    """Return the sum of the biases, to each of which a gradient of its own goes back.

    By itself it would be one place in memory for all, and what clips or adds up gradients in place
    would do so to that place once for every block.
    """
    stacked = torch.stack(list(biases))
    if stacked.requires_grad:
        stacked.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
    return stacked.sum(dim=0)
