"""F0 and voicing of a waveform, by librosa's pYIN (Mauch and Dixon 2014)."""

import numpy as np
from numpy.typing import NDArray

from wavenet.config import F0Config
from wavenet.features.librosa_lock import compiled_librosa

REFERENCE_HZ = 100.0
PERIODS = 4  # of the lowest F0 in an analysis frame


def f0_features(waveform: NDArray[np.float32], config: F0Config) -> NDArray[np.float32]:
    """Return log2(F0 / 100 Hz), voicing and its probability, `(3, ceil(T / hop_length))`.

    F0 is interpolated linearly in unvoiced stretches; it is 0 if nothing is voiced.

    Args:
        waveform: Samples in [-1, 1], `(T,)`.
        config: Range of F0 and hop.
    """
    count = -(-len(waveform) // config.hop_length)
    length = 2 ** int(np.ceil(np.log2(PERIODS * config.sample_rate / config.f_min)))
    if not len(waveform):
        return np.zeros((3, 0), np.float32)
    f0, voiced, probability = compiled_librosa().pyin(
        np.pad(waveform, (0, max(0, length - len(waveform)))),
        fmin=config.f_min,
        fmax=config.f_max,
        sr=config.sample_rate,
        frame_length=length,
        hop_length=config.hop_length,
    )
    known = np.flatnonzero(voiced[:count])
    height = np.zeros(count)
    if len(known):
        height = np.interp(np.arange(count), known, np.log2(f0[known] / REFERENCE_HZ))
    return np.stack([height, voiced[:count], probability[:count]]).astype(np.float32)
