"""How far a copy of a recording is from it: in its spectrum, its pitch, and to the ear.

All take two waveforms of one length and rate, in which the same is said at the same time: nothing
is aligned.

- `mel_distance`: mean absolute difference of log mel spectra, in dB.
- `stft_distance`: spectral convergence and log magnitude at three resolutions (Yamamoto et al.
  2020, Parallel WaveGAN).
- `mel_cepstral_distortion`: in dB, over 13 coefficients without the first (Kubichek 1993).
- `pitch_error` and `voicing_error`: F0 in cents where both are voiced, and the share of frames that
  only one of them voices; by pYIN.
- PESQ (ITU-T P.862) and STOI (Taal et al. 2011), from packages of these names.
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.config import F0Config, MelConfig
from wavenet.features.f0 import pitch
from wavenet.features.mel import LogMel
from wavenet.utils.errors import MachineError, require

Samples = NDArray[np.float32]
RESOLUTIONS = ((1024, 256), (2048, 512), (512, 128))  # samples of a window, and of a hop
COEFFICIENTS = 13
PESQ_SECONDS = 15  # the package writes past its tables where there are more than 50 utterances
LEAST_PESQ = 1.0  # of a copy that is silent
STOI_SECONDS = 0.5  # it looks at stretches of 0.384 s
LEAST = 1e-5  # magnitude under which all is silence


@dataclass(frozen=True)
class CopyScores:
    """Distances of a copy; what could not be measured is absent.

    Attributes:
        mel_db: Mean absolute difference of log mel spectra, in dB; 0 is best.
        stft: Distance of spectra at three resolutions; 0 is best.
        mcd_db: Mel-cepstral distortion, in dB; 0 is best.
        pitch_cents: Root mean square error of F0 where both are voiced; 0 is best.
        voicing: Share of frames that only one of the two voices; 0 is best.
        pesq: About 1 to 4.5, the most is best.
        stoi: Up to 1, which is best.
    """

    mel_db: float
    stft: float | None
    mcd_db: float
    pitch_cents: float | None
    voicing: float
    pesq: float | None
    stoi: float | None


HEADINGS = {  # with what is better
    "mel_db": "mel dB ↓",
    "stft": "STFT ↓",
    "mcd_db": "MCD dB ↓",
    "pitch_cents": "F0 cents ↓",
    "voicing": "voicing ↓",
    "pesq": "PESQ ↑",
    "stoi": "STOI ↑",
}


def copy_scores(original: Samples, copy: Samples, sample_rate: int) -> CopyScores:
    """Return the distances of a copy, `(T,)`, from its original, `(T,)`.

    Raises:
        ValueError: They are not equally long.
    """
    if original.shape != copy.shape or original.ndim != 1:
        raise ValueError(f"wanted two waveforms (T,), got {original.shape} and {copy.shape}")
    mels = [_mel(waveform, sample_rate) for waveform in (original, copy)]
    cents, voicing = _pitch_errors(original, copy, sample_rate)
    return CopyScores(
        mel_db=float((mels[0] - mels[1]).abs().mean()),
        stft=stft_distance(original, copy),
        mcd_db=mel_cepstral_distortion(mels[0], mels[1]),
        pitch_cents=cents,
        voicing=voicing,
        pesq=pesq(original, copy, sample_rate),
        stoi=stoi(original, copy, sample_rate),
    )


def mean_scores(scores: Sequence[CopyScores]) -> CopyScores:
    """Return the mean of each distance over the clips where it could be measured."""
    means: dict[str, Any] = {}
    for field in dataclasses.fields(CopyScores):
        there = [value for value in (getattr(s, field.name) for s in scores) if value is not None]
        means[field.name] = sum(there) / len(there) if there else None
    return CopyScores(**means)


def row_of(scores: CopyScores) -> list[float | None]:
    """Return the distances in the order of `HEADINGS`."""
    return [getattr(scores, name) for name in HEADINGS]


def stft_distance(original: Samples, copy: Samples) -> float | None:
    """Return the mean over resolutions of spectral convergence plus log-magnitude difference.

    Absent where the original is silent: nothing is then converged to.
    """
    if not original.any():
        return None
    distances = []
    for size, hop in RESOLUTIONS:
        window = torch.hann_window(size)
        one, other = (
            torch.stft(
                torch.from_numpy(waveform),
                size,
                hop,
                window=window,
                pad_mode="constant",
                return_complex=True,
            )
            .abs()
            .clamp(min=LEAST)
            for waveform in (original, copy)
        )
        convergence = (one - other).norm() / one.norm()
        distances.append(float(convergence + (one.log() - other.log()).abs().mean()))
    return sum(distances) / len(distances)


def mel_cepstral_distortion(original: torch.Tensor, copy: torch.Tensor) -> float:
    """Return the distortion in dB of mel spectra in dB, `(bands, F)` each, frame by frame."""
    bands = original.shape[0]
    order, band = torch.arange(1, COEFFICIENTS + 1)[:, None], torch.arange(bands)
    basis = torch.cos(math.pi * order * (band + 0.5) / bands) * (2 / bands)
    difference = basis @ (original - copy) * (math.log(10) / 20)  # of natural-log cepstra
    size = difference.square().sum(dim=0).mul(2).sqrt().mean()
    return float(10 / math.log(10) * size)


def pesq(original: Samples, copy: Samples, sample_rate: int) -> float | None:
    """Return PESQ: narrow band at 8 kHz, wide band otherwise, resampled to 16 kHz if need be.

    Long recordings are measured in pieces, as P.862 wants them, and the mean is taken. Absent
    where the package is not installed, or where it finds no speech.
    """
    if not original.any():
        return None
    if not copy.any():
        return LEAST_PESQ
    try:
        package: Any = require("pesq", "evaluate")
    except MachineError:
        return None
    rate = 8000 if sample_rate == 8000 else 16000
    one, other = (_at_rate(waveform, sample_rate, rate) for waveform in (original, copy))
    values = []
    for start in range(0, len(one), PESQ_SECONDS * rate):
        piece = slice(start, start + PESQ_SECONDS * rate)
        try:
            mode = "nb" if rate == 8000 else "wb"
            values.append(float(package.pesq(rate, one[piece], other[piece], mode)))
        except package.PesqError:
            continue
    return sum(values) / len(values) if values else None


def stoi(original: Samples, copy: Samples, sample_rate: int) -> float | None:
    """Return STOI; absent without the package, or where there is too little speech."""
    try:
        package: Any = require("pystoi", "evaluate")
    except MachineError:
        return None
    if not original.any() or len(original) < STOI_SECONDS * sample_rate:
        return None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        value = float(package.stoi(original, copy, sample_rate))
    return None if told else value


def _at_rate(waveform: Samples, rate: int, wanted: int) -> Samples:
    if rate == wanted:
        return waveform
    resampled: Samples = require("soxr", "train").resample(waveform, rate, wanted)
    return resampled


def _mel(waveform: Samples, sample_rate: int) -> torch.Tensor:
    """Return the mel spectrum in dB, `(80, F)`: windows of 32 ms every 8 ms."""
    size = 2 ** round(math.log2(0.032 * sample_rate))
    config = MelConfig(
        sample_rate=sample_rate,
        n_fft=2 * size,
        hop_length=size // 4,
        win_length=size,
        f_max=sample_rate / 2,
        n_mels=80 if sample_rate >= 16000 else 40,
        log_base="decibel",
        log_floor=LEAST,
    )
    mel: torch.Tensor = LogMel(config)(torch.from_numpy(waveform)[None])[0]
    return mel


def _pitch_errors(original: Samples, copy: Samples, sample_rate: int) -> tuple[float | None, float]:
    config = F0Config(sample_rate=sample_rate, hop_length=sample_rate // 100)
    one, other = pitch(original, config), pitch(copy, config)
    both = (one[1] > 0) & (other[1] > 0)
    cents = 1200 * (one[0] - other[0])[both]
    error = float(np.sqrt(np.mean(cents**2))) if both.any() else None
    return error, float((one[1] != other[1]).mean())
