"""Upsampling stages: from the rate of frames towards that of samples, by one factor each.

| name         | output `n * scale + r` sees input frames | weights                            |
| ------------ | ---------------------------------------- | ---------------------------------- |
| `nearest`    | `n - 2` to `n`                           | a kernel for all channels          |
| `centered`   | `n - 1` to `n + 1`                       | a kernel for all channels          |
| `transposed` | `n - m + 1` to `n`                       | a kernel for each pair of channels |
| `shared`     | `n`                                      | a kernel for all channels          |
| `bands`      | `n`, its own and neighboring channels    | a kernel over channels, for all    |
| `repeat`     | `n`                                      | none                               |

`m` is `upsample_frames`. WaveNet, section 2.5 (arXiv:1609.03499), has transposed convolutions and
repetition; the others are those of vocoders that followed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules.checks import check_sizes


class Upsample(nn.Module):
    """From the rate of frames towards that of samples, by one factor; the base of all stages.

    Args:
        channels: Width of input and output.
        scale: Factor by which the rate rises.

    Attributes:
        past: Input frames before its own that an output depends on.
        future: Input frames after its own that an output depends on.

    Shape:
        - Input: `(B, channels, F)`
        - Output: `(B, channels, F * scale)`
    """

    past: int = 0
    future: int = 0

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.channels = channels
        self.scale = scale

    def operations_per_input(self) -> int:
        """Return the floating-point operations for each input frame."""
        return 0


class RepeatUpsample(Upsample):
    """Each frame `scale` times."""

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.scale, dim=-1)


class NearestUpsample(Upsample):
    """Repetition, then one smoothing kernel for all channels, at first a mean over two frames.

    Common in WaveNet vocoders (Odena et al. 2016 for images).
    """

    past = 2

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__(channels, scale)
        self.smoothing = nn.Conv1d(1, 1, 2 * scale + 1, bias=False)
        nn.init.constant_(self.smoothing.weight, 1 / (2 * scale + 1))

    def forward(self, x: Tensor) -> Tensor:
        repeated = x.repeat_interleave(self.scale, dim=-1).flatten(0, 1).unsqueeze(1)
        sides = (self.past * self.scale, self.future * self.scale)
        smooth: Tensor = self.smoothing(F.pad(repeated, sides))
        return smooth.view(x.shape[0], x.shape[1], -1)

    def operations_per_input(self) -> int:
        return 2 * self.smoothing.weight.numel() * self.channels * self.scale


class CenteredUpsample(NearestUpsample):
    """`NearestUpsample` with its kernel centered on the output, so that one later frame is seen.

    Source: github.com/r9y9/wavenet_vocoder, wavenet_vocoder/upsample.py.
    """

    past = 1
    future = 1


class TransposedUpsample(Upsample):
    """Transposed convolution with a kernel of several strides: each output sees so many frames.

    With 4, the upsampling of github.com/NVIDIA/nv-wavenet, pytorch/wavenet.py.

    Args:
        channels: Width of input and output.
        scale: Factor by which the rate rises.
        num_frames: Frames that an output sees, its own and those before; 1 or more.
    """

    def __init__(self, channels: int, scale: int, num_frames: int = 2) -> None:
        super().__init__(channels, scale)
        check_sizes(1, upsample_frames=num_frames)
        self.past = num_frames - 1
        self.conv = nn.ConvTranspose1d(channels, channels, num_frames * scale, stride=scale)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y[..., : x.shape[-1] * self.scale]

    def operations_per_input(self) -> int:
        return 2 * self.conv.weight.numel()


class SharedConvTranspose1d(nn.Module):
    """One transposed convolution for all channels, of one channel and a kernel of its stride.

    The kernel does not overlap, so each output is a product: far faster than `nn.ConvTranspose1d`,
    whose weights these are.

    Args:
        stride: Outputs for each input; also the taps of the kernel.

    Shape:
        - Input: `(B, C, F)`
        - Output: `(B, C, F * stride)`
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, stride))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, x.unsqueeze(-1), self.weight[0]).flatten(-2)


class SharedUpsample(Upsample):
    """Repetition in which each repeat has a factor, for all channels, and a bias; at first 1 and 0.

    Source: github.com/kan-bayashi/PytorchWaveNetVocoder, wavenet_vocoder/nets/wavenet.py.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__(channels, scale)
        self.conv = SharedConvTranspose1d(scale)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y

    def operations_per_input(self) -> int:
        return 2 * self.conv.weight.numel() * self.channels


class BandsUpsample(Upsample):
    """Repetition in which each repeat is a kernel over neighboring channels, a bias and a ReLU.

    With `W` the kernel, `(kernel_size, scale)`, and zeros beyond the first and last channel:

        y[c, n * scale + r] = max(0, bias + sum_j W[j, r] * x[c + (kernel_size - 1) / 2 - j, n])

    The kernel is at first a mean. Source: github.com/r9y9/wavenet_vocoder at v0.1.1, where channels
    are mel bands and `kernel_size` is `freq_axis_kernel_size`.

    Args:
        channels: Width of input and output.
        scale: Factor by which the rate rises.
        kernel_size: Channels that an output sees, its own in the middle; odd.
    """

    def __init__(self, channels: int, scale: int, kernel_size: int = 3) -> None:
        super().__init__(channels, scale)
        check_sizes(1, freq_axis_kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"freq_axis_kernel_size must be odd and positive, got {kernel_size}")
        size, padding = (kernel_size, scale), ((kernel_size - 1) // 2, 0)
        self.conv = nn.ConvTranspose2d(1, 1, size, stride=(1, scale), padding=padding)
        nn.init.constant_(self.conv.weight, 1 / kernel_size)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.unsqueeze(1))
        return torch.relu(y.squeeze(1))

    def operations_per_input(self) -> int:
        return 2 * self.conv.weight.numel() * self.channels


UPSAMPLERS: dict[str, type[Upsample]] = {
    "nearest": NearestUpsample,
    "centered": CenteredUpsample,
    "transposed": TransposedUpsample,
    "shared": SharedUpsample,
    "bands": BandsUpsample,
    "repeat": RepeatUpsample,
}


def build_upsample(
    name: str, channels: int, scale: int, *, upsample_frames: int, freq_axis_kernel_size: int
) -> Upsample:
    """Return one of `UPSAMPLERS`; the options are those of `transposed` and of `bands`."""
    if name == "transposed":
        return TransposedUpsample(channels, scale, upsample_frames)
    if name == "bands":
        return BandsUpsample(channels, scale, freq_axis_kernel_size)
    return UPSAMPLERS[name](channels, scale)
