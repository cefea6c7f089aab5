"""Gated residual block: a dilated convolution, a gate, and two ways on.

    y = conv(x) + condition(c), where there is a condition c
    z = tanh(first half of y) * sigmoid(second half)
    x -> (x + residual(z)) * residual_scale, to the next block
    skip(z), to the sum that the head reads

WaveNet, sections 2.3 to 2.5.
"""

from torch import Tensor, nn

from wavenet.modules.conv import CausalConv1d, pointwise


class ResidualBlock(nn.Module):
    """One block of a `ResidualStack`.

    Args:
        residual_channels: Width of input and output.
        gate_channels: Width of the dilated convolution, tanh and sigmoid halves together; even.
        skip_channels: Width of the skip output.
        kernel_size: Taps of the dilated convolution.
        dilation: Samples between taps.
        bias: Whether the convolutions have biases.
        dropout: Probability of dropping an input of the dilated convolution in training.
        residual_scale: Factor on the sum of input and residual.
        last: Leave out the residual product, which nothing would read.
        condition_channels: Width of the condition; 0 for none.

    Shape:
        - Input: `(B, residual_channels, T)`, and the condition, `(B, conditioning_channels, T)`
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
        self.condition = None
        if conditioning_channels:
            self.condition = nn.Conv1d(conditioning_channels, gate_channels, 1, bias=False)
        self.residual = None if last else nn.Conv1d(half, residual_channels, 1, bias=bias)
        self.skip = nn.Conv1d(half, skip_channels, 1, bias=bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.gated(self.dropout(x), condition)
        return self.onward(x, z), self.skip(z)

    def gated(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the gate's output, `(B, gate_channels / 2, T)`, without dropout."""
        y = self.conv(x)
        if self.condition is not None:
            y = y + self.condition(condition)
        return gate(y)

    def onward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the input of the next block, `(B, residual_channels, T)`."""
        return self._sum(x, None if self.residual is None else self.residual(z))

    def new_queue(self, batch_size: int) -> Tensor:
        """Return the silence before the first sample, `(B, residual_channels, memory)`."""
        return self.conv.new_queue(batch_size)

    def step(
        self, x: Tensor, queue: Tensor, position: int, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return output and skip of sample `position`, `(B, C)` each; the queue moves on."""
        y = self.conv.step(x, queue, position)
        if self.condition is not None and condition is not None:
            y = y + pointwise(self.condition, condition)
        z = gate(y)
        residual = None if self.residual is None else pointwise(self.residual, z)
        return self._sum(x, residual), pointwise(self.skip, z)

    def _sum(self, x: Tensor, residual: Tensor | None) -> Tensor:
        if residual is None:
            return x
        return (x + residual) * self.residual_scale if self.residual_scale != 1.0 else x + residual


def gate(y: Tensor) -> Tensor:
    """Return tanh of the first half of the channels, `(B, C, ...)`, times sigmoid of the second."""
    tanh, sigmoid = y.chunk(2, dim=1)
    return tanh.tanh() * sigmoid.sigmoid()
