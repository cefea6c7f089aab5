"""Residual blocks over a list of dilations, and the sum of what they skip.

Dilations that double from block to block make the receptive field grow exponentially with depth.
WaveNet, section 2.1.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from wavenet.modules.conv import CausalConv1d
from wavenet.modules.fused_stack import StackSpec, StackWeights, fused_stack
from wavenet.modules.gated_activation import GatedActivation
from wavenet.modules.residual import ResidualBlock

FORWARDS = tuple(kind.forward for kind in (ResidualBlock, CausalConv1d, nn.Conv1d, nn.Dropout))


class ResidualStack(nn.Module):
    """`ResidualBlock`s one after the other; the sum of their skip outputs is the output.

    `forward` is one pass over all blocks, for as long as they are as they were made: where one has
    hooks, other modes or other parts, it is `plain`.

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

    Attributes:
        gates: What computes the gates; one written for a machine may take its place.
        recompute: Save memory in training: keep each block's input alone, and compute the rest
            again on the way back.

    Shape:
        - Input: `(B, residual_channels, T)`, and the condition, `(B, conditioning_channels, T)`
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
        conditioning_channels: int = 0,
    ) -> None:
        super().__init__()
        self.dilations = tuple(dilations)
        self.dropout = dropout
        self.residual_scale = residual_scale
        self.skip_scale = skip_scale
        self.gated_activation: type[GatedActivation] = GatedActivation
        self.checkpoint_activations = False
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
                conditioning_channels=conditioning_channels,
            )
            for index, dilation in enumerate(dilations)
        )

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if not self._as_made():
            return self.plain(x, condition)
        plan = StackSpec(
            dilations=self.dilations,
            dropout=self.dropout if self.training else 0.0,
            residual_scale=self.residual_scale,
            skip_scale=self.skip_scale,
            gated_activation=self.gated_activation,
            checkpoint_activations=self.checkpoint_activations,
        )
        return fused_stack(x, condition, plan, self._weights())

    def plain(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return what `forward` returns, block by block: the definition."""
        skips: Tensor | None = None
        for block in self._blocks():
            x, skip = block(x, condition)
            skips = skip if skips is None else skips + skip
        assert skips is not None
        return skips * self.skip_scale

    def new_queues(self, batch_size: int) -> list[Tensor]:
        """Return the silence before the first sample, a queue a block."""
        return [block.new_queue(batch_size) for block in self._blocks()]

    def fill(
        self, queues: list[Tensor], x: Tensor, position: int, condition: Tensor | None = None
    ) -> None:
        """Put the end of every block's input in its queue; `x` ends at sample `position - 1`."""
        for block, queue in zip(self._blocks(), queues, strict=True):
            block.conv.fill(queue, x, position)
            x = block.onward(x, block.gated(x, condition))

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
        return cast("list[ResidualBlock]", list(self.blocks))

    def _as_made(self) -> bool:
        """Whether the training pass gives what the blocks would."""
        blocks = self._blocks()
        return len(blocks) == len(self.dilations) and all(
            type(block) is ResidualBlock
            and all(map(_calls_its_class, (block, *block.children())))
            and block.conv.dilation == (dilation,)
            and block.residual_scale == self.residual_scale
            and (block.dropout.p, block.dropout.training) == (self.dropout, self.training)
            for block, dilation in zip(blocks, self.dilations, strict=True)
        )

    def _weights(self) -> StackWeights:
        """Return what the training pass computes with."""
        blocks = self._blocks()
        return StackWeights(
            conv=[block.conv.weight for block in blocks],
            conv_bias=[block.conv.bias for block in blocks],
            condition=[getattr(block.condition, "weight", None) for block in blocks],
            residual=[getattr(block.residual, "weight", None) for block in blocks],
            residual_bias=[getattr(block.residual, "bias", None) for block in blocks],
            skip=[block.skip.weight for block in blocks],
            skip_bias=[block.skip.bias for block in blocks],
        )


def _calls_its_class(part: nn.Module) -> bool:
    """Whether a call of a block, or of a part of it, does what its class says and nothing more."""
    hooks = part._forward_pre_hooks, part._forward_hooks
    backward_hooks = part._backward_pre_hooks, part._backward_hooks
    written = type(part).forward in FORWARDS and "forward" not in vars(part)
    return written and not any((*hooks, *backward_hooks))
