"""What fixes the shape of a model's weights, and what its signal means.

A config is a frozen dataclass that checks itself once; `wavenet.plain` reads and writes it.
"""

import math
from dataclasses import dataclass
from typing import Literal

from wavenet.plain import check


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """Shape of a `WaveNet`.

    Attributes:
        levels: Classes of the mu-law categorical output (256 for 8 bits).
        input: What the first convolution sees: `embedding`, the class of each sample (one-hot), or
            `scalar`, its value.
        input_kernel_size: Taps of the first causal convolution.
        dilations: Samples between taps, one entry a block.
        kernel_size: Taps of each dilated convolution.
        residual_channels: Width of the path from block to block.
        gate_channels: Width of the gated convolution, tanh and sigmoid halves together.
        skip_channels: Width of the sum of all blocks that the head reads.
        head_channels: Width between the two last 1x1 convolutions.
        bias: Whether convolutions have biases.
        dropout: Probability of dropping an input of a dilated convolution in training.
        weight_norm: Whether convolution weights are learnt as length and direction.
        residual_scale: Factor on each block's sum of input and residual output.
        skip_scale: Factor on the sum of the skip outputs.
    """

    levels: int = 256
    input: Literal["embedding", "scalar"] = "embedding"
    input_kernel_size: int = 1
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) * 3
    kernel_size: int = 2
    residual_channels: int = 64
    gate_channels: int = 128
    skip_channels: int = 256
    head_channels: int = 256
    bias: bool = True
    dropout: float = 0.0
    weight_norm: bool = False
    residual_scale: float = 1.0
    skip_scale: float = 1.0

    def __post_init__(self) -> None:
        check(2 <= self.levels <= 65536, "levels", "from 2 to 65536", self.levels)
        check(bool(self.dilations), "dilations", "one entry a block", self.dilations)
        check(min(self.dilations) >= 1, "dilations", "1 or more each", self.dilations)
        check(max(self.dilations) <= 2**24, "dilations", "2**24 at most", max(self.dilations))
        check(len(self.dilations) <= 1000, "dilations", "1000 at most", len(self.dilations))
        for name in ("kernel_size", "input_kernel_size"):
            check(1 <= getattr(self, name) <= 1024, name, "from 1 to 1024", getattr(self, name))
        for name in ("residual_channels", "gate_channels", "skip_channels", "head_channels"):
            check(1 <= getattr(self, name) <= 65536, name, "1 to 65536", getattr(self, name))
        check(self.gate_channels % 2 == 0, "gate_channels", "even", self.gate_channels)
        check(0.0 <= self.dropout < 1.0, "dropout", "in [0, 1)", self.dropout)
        for name in ("residual_scale", "skip_scale"):
            value = getattr(self, name)
            check(math.isfinite(value) and value > 0, name, "positive", value)

    @property
    def receptive_field(self) -> int:
        """Past samples that the distribution of one sample depends on."""
        return self.input_kernel_size + (self.kernel_size - 1) * sum(self.dilations)

    def receptive_field_seconds(self, sample_rate: int) -> float:
        """Return the receptive field in seconds of audio at `sample_rate`."""
        return self.receptive_field / sample_rate

    @property
    def effective_kernel_sizes(self) -> tuple[int, ...]:
        """Samples from first to last tap of each block, both counted: k + (k-1)(dilation-1)."""
        k = self.kernel_size
        return tuple(k + (k - 1) * (dilation - 1) for dilation in self.dilations)


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """What a model's signal means outside the model.

    Attributes:
        sample_rate: Samples a second, in Hz.
        companding: How a categorical output's classes lie on [-1, 1].
    """

    sample_rate: int = 16000
    companding: Literal["mu-law"] = "mu-law"

    def __post_init__(self) -> None:
        check(1 <= self.sample_rate <= 768000, "sample_rate", "1 to 768000", self.sample_rate)
