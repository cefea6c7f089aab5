"""Copies that anyone can make, to stand beside a model's: what its numbers must be read against.

The mu-law round trip has the model's own quantisation and no other fault. Griffin-Lim knows what
the model knows, the mel spectrogram, and no speech.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.distributions import Distribution
from wavenet.features.filters import Shaping
from wavenet.features.mel import LogMel
from wavenet.utils.errors import require

Samples = NDArray[np.float32]
ITERATIONS = 60


def round_trip(waveform: Samples, distribution: Distribution, shaping: Shaping) -> Samples:
    """Return a waveform, `(T,)`, as a model's output could put it out at best."""
    signal = distribution.quantize(shaping.apply(torch.from_numpy(waveform)))
    copy: Samples = shaping.undone()(signal[None])[0].numpy()
    return copy


def invertible(mel: MelConfig) -> bool:
    """Return whether windows overlap as Griffin-Lim needs them to."""
    return mel.n_fft % 2 == 0 and 2 * mel.hop_length <= mel.win_length


def griffin_lim(waveform: Samples, mel: MelConfig, iterations: int = ITERATIONS) -> Samples:
    """Return what Griffin-Lim makes of a waveform's mel spectrogram, `(T,)`.

    The bank of mel filters is undone by least squares without negative magnitudes; phases start
    from one fixed draw.

    Args:
        waveform: The original, `(T,)`: its mel spectrogram is made first.
        mel: The convention.
        iterations: Of the fast algorithm (Perraudin et al. 2013), momentum 0.99.
    """
    functional: Any = require("torchaudio", "train").functional
    length = len(waveform)
    waveform = np.pad(waveform, (0, max(0, mel.n_fft - length)))  # to reflect it takes half
    layer = LogMel(mel)
    frames = layer(torch.from_numpy(waveform)[None])[0] * layer.std + layer.mean
    if mel.log_base == "natural":
        value = frames.exp()
    else:
        value = 10 ** (frames / (20 / mel.power if mel.log_base == "decibel" else 1))
    magnitude = _least_squares(layer.bank, value)
    if mel.power == 2:
        magnitude = magnitude.sqrt()
    more = 1 + len(waveform) // mel.hop_length - magnitude.shape[1]  # torch centres one on the end
    magnitude = torch.cat([magnitude, magnitude[:, -1:].expand(-1, more)], dim=1)
    window = torch.hann_window(mel.win_length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        copy = functional.griffinlim(
            magnitude,
            window,
            mel.n_fft,
            mel.hop_length,
            mel.win_length,
            1.0,
            iterations,
            0.99,
            len(waveform),
            True,
        )
    limited: Samples = copy[:length].clamp(-1, 1).numpy()
    return limited


def _least_squares(bank: torch.Tensor, mel: torch.Tensor, steps: int = 200) -> torch.Tensor:
    """Return magnitudes of 0 or more, `(bins, F)`, whose mel comes nearest to `mel`, `(bands, F)`.

    Multiplicative updates (Lee and Seung 2001): they never leave what is positive.
    """
    x: torch.Tensor = (torch.linalg.pinv(bank) @ mel).clamp(min=1e-6)
    target = bank.T @ mel
    product = bank.T @ bank
    for _ in range(steps):
        x = x * target / (product @ x).clamp(min=1e-12)
    return x
