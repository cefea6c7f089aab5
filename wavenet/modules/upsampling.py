"""From the rate of frames towards that of samples, by one factor.

All look back only: an output depends on its own frame and on `past` frames before it. Nearest
upsampling with a learned smoothing kernel is common in WaveNet vocoders (Odena et al. 2016 for
images).
"""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F


class Upsample(nn.Module):
    """Base of all, which learns nothing itself.

    Args:
        channels: Width of input and output.
        scale: Factor by which the rate rises.

    Shape:
        - Input: `(B, channels, F)`
        - Output: `(B, channels, F * scale)`
    """

    past: ClassVar[int] = 0

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
    """Repetition, then one smoothing kernel for all channels, at first a mean over two frames."""

    past = 2

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__(channels, scale)
        self.smoothing = nn.Conv1d(1, 1, 2 * scale + 1, bias=False)
        nn.init.constant_(self.smoothing.weight, 1 / (2 * scale + 1))

    def forward(self, x: Tensor) -> Tensor:
        repeated = x.repeat_interleave(self.scale, dim=-1).flatten(0, 1).unsqueeze(1)
        smooth: Tensor = self.smoothing(F.pad(repeated, (2 * self.scale, 0)))
        return smooth.view(x.shape[0], x.shape[1], -1)

    def operations_per_input(self) -> int:
        return 2 * self.smoothing.weight.numel() * self.channels * self.scale


class TransposedUpsample(Upsample):
    """Transposed convolution: each output sees two frames."""

    past = 1

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__(channels, scale)
        self.conv = nn.ConvTranspose1d(channels, channels, 2 * scale, stride=scale)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y[..., : x.shape[-1] * self.scale]

    def operations_per_input(self) -> int:
        return 2 * self.conv.weight.numel()


UPSAMPLERS: dict[str, type[Upsample]] = {
    "nearest": NearestUpsample,
    "transposed": TransposedUpsample,
    "repeat": RepeatUpsample,
}
