"""From the rate of frames towards that of samples, one factor at a time.

All look back only: an output depends on its own frame and on `past` frames before it. Nearest
upsampling with a learned smoothing kernel is common in WaveNet vocoders (Odena et al. 2016 for
images).

Shape of all:
    - Input: `(B, channels, F)`
    - Output: `(B, channels, F * scale)`
"""

from torch import Tensor, nn
from torch.nn import functional as F


class RepeatUpsample(nn.Module):
    """`scale` copies of each number.

    Args:
        channels: Width of input and output.
        scale: Factor by which the rate rises.
    """

    past = 0

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.scale, dim=-1)


class NearestUpsample(nn.Module):
    """Copies, then one smoothing kernel for all channels, which starts as a mean over two copies.

    Args:
        channels: Width of input and output.
        scale: Factor by which the rate rises.
    """

    past = 2

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.smoothing = nn.Conv1d(1, 1, 2 * scale + 1, bias=False)
        nn.init.constant_(self.smoothing.weight, 1 / (2 * scale + 1))

    def forward(self, x: Tensor) -> Tensor:
        copies = x.repeat_interleave(self.scale, dim=-1).flatten(0, 1).unsqueeze(1)
        smooth: Tensor = self.smoothing(F.pad(copies, (2 * self.scale, 0)))
        return smooth.view(x.shape[0], x.shape[1], -1)


class TransposedUpsample(nn.Module):
    """Transposed convolution: each output sees two inputs.

    Args:
        channels: Width of input and output.
        scale: Factor by which the rate rises.
    """

    past = 1

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.ConvTranspose1d(channels, channels, 2 * scale, stride=scale)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y[..., : x.shape[-1] * self.scale]


Upsampler = RepeatUpsample | NearestUpsample | TransposedUpsample
UPSAMPLERS: dict[str, type[RepeatUpsample] | type[NearestUpsample] | type[TransposedUpsample]] = {
    "nearest": NearestUpsample,
    "transposed": TransposedUpsample,
    "repeat": RepeatUpsample,
}
