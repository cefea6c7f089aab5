"""Gated residual blocks, a stack of them over a list of dilations, and the head that reads it.

    y = conv(x) + conditioning_conv(c), where there is a conditioning c
    z = tanh(first half of y) * sigmoid(second half)
    x -> (x + residual_conv(z)) * residual_scale, to the next block
    skip_conv(z), to the sum over all blocks that the head reads

Dilations that double from block to block make the receptive field grow exponentially with depth.
WaveNet, sections 2.1 and 2.3 to 2.5.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import type_before_parametrizations

from wavenet.modules.conv import CausalConv1d, pointwise
from wavenet.modules.fused_stack import StackSpec, StackWeights, fused_stack
from wavenet.modules.rows import GatedActivation
from wavenet.modules.standard import overridden_call, replaces_method


class ResidualBlock(nn.Module):
    """One block of a `ResidualStack`.

    To change it, override `activation`, which `forward`, `prefill` and `step` share, or replace a
    convolution: the stack then runs block by block.

    Args:
        residual_channels: Width of input and output.
        gate_channels: Width of the dilated convolution, tanh and sigmoid halves together; even.
        skip_channels: Width of the skip output.
        kernel_size: Taps of the dilated convolution.
        dilation: Samples between taps.
        bias: Whether the convolutions have biases.
        dropout: Probability of dropping an input of the dilated convolution in training.
        residual_scale: Factor on the sum of input and residual.
        last: Leave out the residual convolution, whose output nothing would read.
        conditioning_channels: Width of the conditioning; 0 for none.

    Shape:
        - Input: `(B, residual_channels, T)`, and the conditioning, `(B, conditioning_channels, T)`
        - Output: `(B, residual_channels, T)` and skip `(B, skip_channels, T)`
    """

    def __init__(
        self,
        residual_channels: int,
        gate_channels: int,
        skip_channels: int,
        kernel_size: int = 2,
        dilation: int = 1,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        residual_scale: float = 1.0,
        last: bool = False,
        conditioning_channels: int = 0,
    ) -> None:
        if gate_channels % 2:
            raise ValueError(f"gate_channels must be even, tanh and sigmoid, got {gate_channels}")
        super().__init__()
        half = gate_channels // 2
        self.residual_scale = residual_scale
        self.dropout = nn.Dropout(dropout)
        self.conv = CausalConv1d(residual_channels, gate_channels, kernel_size, dilation, bias=bias)
        self.conditioning_conv = None
        if conditioning_channels:
            self.conditioning_conv = nn.Conv1d(conditioning_channels, gate_channels, 1, bias=False)
        self.residual_conv = None if last else nn.Conv1d(half, residual_channels, 1, bias=bias)
        self.skip_conv = nn.Conv1d(half, skip_channels, 1, bias=bias)

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self._gate(self.dropout(x), conditioning)
        return self._add_residual(x, z), self.skip_conv(z)

    def activation(self, y: Tensor, projected: Tensor | None) -> Tensor:
        """Return the gate's output, `(B, gate_channels / 2, ...)`.

        Args:
            y: Output of the dilated convolution, `(B, gate_channels, T)`, or of one sample, `(B,
                gate_channels)`.
            projected: Output of `conditioning_conv` for the same samples, if there is one.
        """
        tanh, sigmoid = (y if projected is None else y + projected).chunk(2, dim=1)
        return tanh.tanh() * sigmoid.sigmoid()

    def new_queue(self, batch_size: int) -> Tensor:
        """Return the silence before the first sample, `(B, residual_channels, memory)`."""
        return self.conv.new_queue(batch_size)

    def prefill(
        self, queue: Tensor, x: Tensor, position: int, conditioning: Tensor | None = None
    ) -> Tensor:
        """Store the end of `x`, which ends at sample `position - 1`; return the next block's."""
        self.conv.prefill(queue, x, position)
        return self._add_residual(x, self._gate(x, conditioning))

    def step(
        self, x: Tensor, queue: Tensor, position: int, conditioning: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return output and skip of sample `position`, `(B, C)` each; `x` enters the queue."""
        projected = None
        if self.conditioning_conv is not None and conditioning is not None:
            projected = pointwise(self.conditioning_conv, conditioning)
        z = self.activation(self.conv.step(x, queue, position), projected)
        residual = None if self.residual_conv is None else pointwise(self.residual_conv, z)
        return self._scaled_sum(x, residual), pointwise(self.skip_conv, z)

    def _gate(self, x: Tensor, conditioning: Tensor | None) -> Tensor:
        conv = self.conditioning_conv
        return self.activation(self.conv(x), None if conv is None else conv(conditioning))

    def _add_residual(self, x: Tensor, z: Tensor) -> Tensor:
        return self._scaled_sum(x, None if self.residual_conv is None else self.residual_conv(z))

    def _scaled_sum(self, x: Tensor, residual: Tensor | None) -> Tensor:
        if residual is None:
            return x
        return (x + residual) * self.residual_scale if self.residual_scale != 1.0 else x + residual


class ResidualStack(nn.Module):
    """`ResidualBlock`s one after the other; the output is the sum of their skip outputs.

    Args:
        dilations: Samples between taps, one entry per block.
        residual_channels: Width from block to block, and of the input.
        gate_channels: Width of the dilated convolutions, tanh and sigmoid halves together.
        skip_channels: Width of the output.
        kernel_size: Taps of the dilated convolutions.
        bias: Whether convolutions have biases.
        dropout: Probability of dropping an input of a dilated convolution in training.
        residual_scale: Factor on each block's sum of input and residual.
        skip_scale: Factor on the sum of the skips.
        conditioning_channels: Width of the conditioning; 0 for none.

    Attributes:
        fused: Compute standard blocks as one function, which is faster; set it to false for second
            derivatives.
        gated_activation: Implementation of the gates in the fused stack.
        checkpoint_activations: Save memory in training: the fused stack keeps only each block's
            input and recomputes the rest in the backward pass.

    Shape:
        - Input: `(B, residual_channels, T)`, and the conditioning, `(B, conditioning_channels, T)`
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
        self.fused = True
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

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        if self.fused and (weights := self.standard_weights()) is not None:
            spec = StackSpec(
                dilations=self.dilations,
                dropout=self.dropout if self.training else 0.0,
                residual_scale=self.residual_scale,
                skip_scale=self.skip_scale,
                gated_activation=self.gated_activation,
                checkpoint_activations=self.checkpoint_activations,
            )
            return fused_stack(x, conditioning, spec, weights)
        skips: Tensor | None = None
        for block in self.blocks:
            x, skip = block(x, conditioning)
            skips = skip if skips is None else skips + skip
        assert skips is not None
        return skips * self.skip_scale

    def new_queues(self, batch_size: int) -> list[Tensor]:
        """Return the silence before the first sample, one queue per block."""
        return [block.new_queue(batch_size) for block in self._blocks()]

    def prefill(
        self, queues: list[Tensor], x: Tensor, position: int, conditioning: Tensor | None = None
    ) -> None:
        """Store the end of every block's input in its queue; `x` ends at sample `position - 1`."""
        for block, queue in zip(self._blocks(), queues, strict=True):
            x = block.prefill(queue, x, position, conditioning)

    def step(
        self, x: Tensor, queues: list[Tensor], position: int, conditioning: Tensor | None = None
    ) -> Tensor:
        """Return output sample `position`, `(B, skip_channels)`; the queues are updated."""
        skips: Tensor | None = None
        for block, queue in zip(self._blocks(), queues, strict=True):
            x, skip = block.step(x, queue, position, conditioning)
            skips = skip if skips is None else skips + skip
        assert skips is not None
        return skips * self.skip_scale

    def standard_weights(self) -> StackWeights | None:
        """Return the weights of all blocks; `None` if a block was changed, replaced or hooked."""
        blocks = self._blocks()
        if len(blocks) != len(self.dilations) or not all(map(self._is_standard, blocks)):
            return None
        if tuple(block.conv.dilation[0] for block in blocks) != self.dilations:
            return None
        weights = StackWeights(
            conv=[block.conv.weight for block in blocks],
            conv_bias=[block.conv.bias for block in blocks],
            conditioning=[getattr(block.conditioning_conv, "weight", None) for block in blocks],
            residual=[getattr(block.residual_conv, "weight", None) for block in blocks],
            residual_bias=[getattr(block.residual_conv, "bias", None) for block in blocks],
            skip=[block.skip_conv.weight for block in blocks],
            skip_bias=[block.skip_conv.bias for block in blocks],
        )
        has_residual = [weight is not None for weight in weights.residual]
        if has_residual != [True] * (len(blocks) - 1) + [False]:
            return None
        kinds = weights.conv, weights.conditioning, weights.residual[:-1], weights.skip
        shapes = [{None if weight is None else weight.shape for weight in kind} for kind in kinds]
        return weights if all(len(shape) <= 1 for shape in shapes) else None

    def _is_standard(self, block: ResidualBlock) -> bool:
        """Whether the fused stack computes what this block does."""
        return (
            all(map(_is_standard_module, (block, *block.children())))
            and not replaces_method(block, "activation")
            and getattr(block.conditioning_conv, "bias", None) is None
            and block.residual_scale == self.residual_scale
            and (block.dropout.p, block.dropout.training) == (self.dropout, self.training)
        )

    def _blocks(self) -> list[ResidualBlock]:
        return cast("list[ResidualBlock]", list(self.blocks))


class Head(nn.Module):
    """From the sum of the skips to parameters: ReLU, 1x1 convolution, ReLU, 1x1 convolution.

    Args:
        in_channels: Width of the skip sum.
        channels: Width between the convolutions.
        out_channels: Distribution parameters per sample.
        bias: Whether the convolutions have biases.

    Shape:
        - Input: `(B, in_channels, T)`
        - Output: `(B, out_channels, T)`
    """

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(in_channels, channels, 1, bias=bias)
        self.output = nn.Conv1d(channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x.transpose(1, 2)).transpose(1, 2)

    def step(self, x: Tensor) -> Tensor:
        """Return the parameters of one sample, or of several with channels last, `(..., P)`."""
        return pointwise(self.output, F.relu(pointwise(self.hidden, F.relu(x))))


STANDARD_FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {
    kind: kind.forward for kind in (ResidualBlock, CausalConv1d, nn.Conv1d, nn.Dropout)
}


def _is_standard_module(module: nn.Module) -> bool:
    """Whether a call of a block or one of its parts computes what the fused stack knows."""
    standard_forward = STANDARD_FORWARDS.get(type_before_parametrizations(module))
    if type(module).forward is not standard_forward or overridden_call(module) is not None:
        return False
    if not isinstance(module, nn.Conv1d):
        return True
    options = module.stride, module.padding, module.groups, module.padding_mode
    return options == ((1,), (0,), 1, "zeros")
