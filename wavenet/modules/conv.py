"""Dilated convolutions: a causal one, and one that sees both sides.

The causal one processes a whole signal or one sample at a time: `forward` processes `T` samples at
once, for training; `step` processes one sample and keeps the past in a queue, for generation. Both
return the same numbers.

WaveNet, section 2.1 (arXiv:1609.03499); the queues are Fast WaveNet's (arXiv:1611.09482).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CausalConv1d(nn.Conv1d):
    """Convolution whose output at sample `t` sees the input up to and including `t`.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel_size: Taps, 1 or more; the last one is the current sample's.
        dilation: Samples from one tap to the next.
        bias: Whether to add a bias.

    Shape:
        - Input: `(B, in_channels, T)`
        - Output: `(B, out_channels, T)`
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        *,
        bias: bool = True,
    ) -> None:
        if kernel_size < 1:
            raise ValueError(f"kernel_size must be 1 or more, got {kernel_size}")
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation, bias=bias)
        self.memory = (kernel_size - 1) * dilation  # past samples that one output needs

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.memory, 0)))

    def new_queue(self, batch_size: int) -> Tensor:
        """Return the silence before the first sample, zeros `(B, in_channels, memory)`."""
        return self.weight.new_zeros(batch_size, self.in_channels, self.memory)

    def prefill(self, queue: Tensor, x: Tensor, position: int) -> None:
        """Store the end of `x` in the queue, as `step` would do sample by sample.

        Args:
            queue: From `new_queue`, changed in place.
            x: Inputs up to and including sample `position - 1`, `(B, in_channels, T)`.
            position: Number of samples before the next step.
        """
        if self.memory:
            recent = x[..., -self.memory :]
            samples = torch.arange(position - recent.shape[-1], position, device=x.device)
            queue[..., samples % self.memory] = recent

    def step(self, x: Tensor, queue: Tensor, position: int) -> Tensor:
        """Return output sample `position`, `(B, out_channels)`.

        Args:
            x: Input sample `position`, `(B, in_channels)`.
            queue: From `new_queue`; `x` replaces its oldest sample, in place.
            position: Number of samples before this one, from 0.
        """
        if not self.memory:
            return pointwise(self, x)
        offsets = range(self.memory, 0, -self.dilation[0])  # oldest tap first
        past = [queue[..., (position - offset) % self.memory] for offset in offsets]
        taps = torch.stack([*past, x], dim=-1)  # (B, in_channels, kernel_size)
        queue[..., position % self.memory] = x
        return F.linear(taps.flatten(1), self.weight.flatten(1), self.bias)


def pointwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Return the output of a 1x1 convolution, channels last, `(..., C)` in and out."""
    return F.linear(x, conv.weight.squeeze(-1), conv.bias)


class SameConv1d(nn.Conv1d):
    """Convolution whose output at sample `t` sees the input on both sides of `t`.

    For dilated context where the future is known, as in an encoder or a denoiser. Its output has
    the length of its input for every kernel; an even kernel has one tap more in the future.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel_size: Taps, 1 or more.
        dilation: Samples from one tap to the next.
        bias: Whether to add a bias.

    Shape:
        - Input: `(B, in_channels, T)`
        - Output: `(B, out_channels, T)`
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation, bias=bias)
        memory = (kernel_size - 1) * dilation
        before = (kernel_size - 1) // 2 * dilation
        self.sides = (before, memory - before)  # samples needed before and after

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.sides))
