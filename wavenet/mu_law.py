"""mu-law companding: a sample of [-1, 1] as one of a few classes, finer near silence.

The rounding convention of torchaudio: `mu = levels - 1`, classes spread evenly over the companded
range, the nearest one taken. With 256 levels the class of silence is 128. WaveNet, section 2.2.
"""

import math

import torch
from torch import Tensor


def mu_law_encode(waveform: Tensor, levels: int = 256) -> Tensor:
    """Return the class of each sample, from 0 to `levels - 1`, int64 of the same shape.

    Args:
        waveform: Samples; what lies outside [-1, 1] gets the outermost class.
        levels: Number of classes, 2 or more.
    """
    mu = levels - 1
    companded = waveform.sign() * torch.log1p(mu * waveform.abs()) / math.log1p(mu)
    return ((companded + 1) / 2 * mu + 0.5).to(torch.int64).clamp_(0, mu)


def mu_law_decode(codes: Tensor, levels: int = 256, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the sample in [-1, 1] that each class stands for; `mu_law_encode` undoes it."""
    mu = levels - 1
    companded = codes.to(dtype) / mu * 2 - 1
    return companded.sign() * torch.expm1(companded.abs() * math.log1p(mu)) / mu
