"""Triangular mel filters, without torchaudio: what a frame of a `MelConfig` sums over.

The formulas are those of torchaudio's `melscale_fbanks`, which `LogMel` uses, in float64.
"""

import math

import numpy as np
from numpy.typing import NDArray

from wavenet.config import MelConfig

Array = NDArray[np.float64]

_SLANEY_HZ = 200 / 3  # a mel below 1 kHz
_SLANEY_LOG_STEP = math.log(6.4) / 27  # a mel above, in nats


def bin_frequencies(config: MelConfig) -> Array:
    """Return the frequency of each bin of the FFT in Hz, `(bins,)`."""
    return np.linspace(0, config.sample_rate // 2, config.n_fft // 2 + 1)


def band_edges(config: MelConfig) -> Array:
    """Return the corners in Hz, `(n_mels + 2,)`; band `m` rises from `m` to `m + 1` and falls."""
    lowest, highest = (_to_mel(hz, config.mel_scale) for hz in (config.f_min, config.f_max))
    return _to_hz(np.linspace(lowest, highest, config.n_mels + 2), config.mel_scale)


def mel_bank(config: MelConfig) -> Array:
    """Return the weight of each bin in each band, `(n_mels, bins)`."""
    edges = band_edges(config)
    low, center, high = (edges[start : start + config.n_mels, None] for start in range(3))
    hz = bin_frequencies(config)
    bank = np.maximum(0, np.minimum((hz - low) / (center - low), (high - hz) / (high - center)))
    if config.norm == "slaney":
        bank = bank * (2 / (high - low))
    return bank


def _to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hz / 700)
    linear = hz / _SLANEY_HZ
    return linear if hz < 1000 else 15 + math.log(hz / 1000) / _SLANEY_LOG_STEP


def _to_hz(mel: Array, scale: str) -> Array:
    if scale == "htk":
        hz: Array = 700 * (10 ** (mel / 2595) - 1)
        return hz
    return np.where(mel < 15, mel * _SLANEY_HZ, 1000 * np.exp((mel - 15) * _SLANEY_LOG_STEP))
