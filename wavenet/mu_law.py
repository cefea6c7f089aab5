"""mu-law companding: a sample in [-1, 1] as one of a few classes, finer near silence.

The rounding convention of torchaudio: `mu = quantization_channels - 1`, classes evenly spaced in
the companded range, rounded to the nearest. With 256 classes silence is class 128. WaveNet, section
2.2.
"""

import math

import torch
from torch import Tensor


def mu_law_encode(waveform: Tensor, quantization_channels: int = 256) -> Tensor:
    """Return the class of each sample, 0 to `quantization_channels - 1`, int64, same shape.

    Args:
        waveform: Samples; values outside [-1, 1] get the outermost class.
        quantization_channels: Number of classes, 2 or more.
    """
    mu = quantization_channels - 1
    companded = waveform.sign() * torch.log1p(mu * waveform.abs()) / math.log1p(mu)
    return ((companded + 1) / 2 * mu + 0.5).to(torch.int64).clamp_(0, mu)


def mu_law_decode(
    codes: Tensor, quantization_channels: int = 256, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the sample in [-1, 1] that each class stands for; `mu_law_encode` inverts it."""
    mu = quantization_channels - 1
    companded = codes.to(dtype) / mu * 2 - 1
    return companded.sign() * torch.expm1(companded.abs() * math.log1p(mu)) / mu
