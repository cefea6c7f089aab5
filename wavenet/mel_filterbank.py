"""The triangular filters that sum the bins of a spectrum to mel bands."""

import math

import torch
from torch import Tensor

from wavenet.feature_configs import MelConfig

SLANEY_BREAK_HZ = 1000.0  # below it the scale is linear
SLANEY_HZ_PER_MEL = 200.0 / 3
SLANEY_LOG_STEP = math.log(6.4) / 27


def mel_filterbank(config: MelConfig) -> Tensor:
    """Return the weight of each bin in each band, `(n_mels, n_fft // 2 + 1)`, float64.

    The scales are Slaney's Auditory Toolbox's and HTK's; triangles are linear in Hz.
    """
    bins = torch.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1, dtype=torch.float64)
    lowest, highest = (_hz_to_mel(hz, config.mel_scale) for hz in (config.f_min, config.f_max))
    mels = torch.linspace(lowest, highest, config.n_mels + 2, dtype=torch.float64)
    edges = _mel_to_hz(mels, config.mel_scale)
    lower, center, upper = (edges[i : config.n_mels + i].unsqueeze(1) for i in range(3))
    rising, falling = (bins - lower) / (center - lower), (upper - bins) / (upper - center)
    bank = torch.minimum(rising, falling).clamp(min=0)
    return bank * 2 / (upper - lower) if config.norm == "slaney" else bank


def _hz_to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hz / 700)
    if hz < SLANEY_BREAK_HZ:
        return hz / SLANEY_HZ_PER_MEL
    above = math.log(hz / SLANEY_BREAK_HZ) / SLANEY_LOG_STEP
    return SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL + above


def _mel_to_hz(mels: Tensor, scale: str) -> Tensor:
    if scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    linear = SLANEY_HZ_PER_MEL * mels
    above = (mels - SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL) * SLANEY_LOG_STEP
    return torch.where(linear < SLANEY_BREAK_HZ, linear, SLANEY_BREAK_HZ * torch.exp(above))
