"""Metrics that compare a resynthesized recording with its original.

Both waveforms have the same length and sample rate and are aligned in time.

- `mel_db`: mean absolute difference of log mel spectra, in dB.
- `stft`: spectral convergence plus log magnitude difference at three resolutions (Yamamoto et al.
  2020, Parallel WaveGAN).
- `mcd_db`: mel-cepstral distortion in dB, 13 coefficients without the first (Kubichek 1993).
- `f0_rmse_cents` and `voicing_error`: error of F0 where both are voiced, and the fraction of frames
  that are voiced in only one of the two; F0 by pYIN.
- PESQ (ITU-T P.862) and STOI (Taal et al. 2011), from the packages `pesq` and `pystoi`.
- `onset_f_measure`: whether notes start where the score has them, within 50 ms; onsets by librosa
  (spectral flux), matched by mir_eval (Raffel et al. 2014).
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
from wavenet.features.f0 import f0_features
from wavenet.features.librosa_lock import compiled_librosa
from wavenet.features.mel import LogMel
from wavenet.features.score import Note
from wavenet.utils.errors import MachineError, require

Samples = NDArray[np.float32]
STFT_RESOLUTIONS = ((1024, 256), (2048, 512), (512, 128))  # window and hop, in samples
NUM_CEPSTRA = 13
MAX_PESQ_SECONDS = 15  # the package writes past its tables with more than 50 utterances
SILENCE_PESQ = 1.0  # of a silent resynthesis
MIN_STOI_SECONDS = 0.5  # STOI needs segments of 0.384 s
MIN_MAGNITUDE = 1e-5  # smaller magnitudes count as silence
ONSET_TOLERANCE_SECONDS = 0.05
ONSET_HOP_SECONDS = 0.01
CHORD_SECONDS = 0.03  # notes that start within this time are one onset


@dataclass(frozen=True)
class ResynthesisMetrics:
    """Metrics of one resynthesis; `None` where a metric is undefined or its package is missing.

    Attributes:
        mel_db: Mean absolute difference of log mel spectra, in dB; 0 is best.
        stft: Multi-resolution STFT distance; 0 is best.
        mcd_db: Mel-cepstral distortion, in dB; 0 is best.
        f0_rmse_cents: Root mean square error of F0 where both are voiced; 0 is best.
        voicing_error: Fraction of frames that are voiced in only one of the two; 0 is best.
        pesq: About 1 to 4.5; higher is better.
        stoi: Up to 1; higher is better.
    """

    mel_db: float
    stft: float | None
    mcd_db: float
    f0_rmse_cents: float | None
    voicing_error: float
    pesq: float | None
    stoi: float | None

    def row(self) -> list[float | None]:
        """Return the metrics in the order of `METRIC_HEADINGS`."""
        return [getattr(self, name) for name in METRIC_HEADINGS]


METRIC_HEADINGS = {  # the arrow points to what is better
    "mel_db": "mel dB ↓",
    "stft": "STFT ↓",
    "mcd_db": "MCD dB ↓",
    "f0_rmse_cents": "F0 cents ↓",
    "voicing_error": "voicing ↓",
    "pesq": "PESQ ↑",
    "stoi": "STOI ↑",
}


def resynthesis_metrics(
    original: Samples, resynthesis: Samples, sample_rate: int
) -> ResynthesisMetrics:
    """Return the metrics of a resynthesis, `(T,)`, against its original, `(T,)`.

    Raises:
        ValueError: The lengths differ.
    """
    if original.shape != resynthesis.shape or original.ndim != 1:
        raise ValueError(
            f"expected two waveforms (T,), got {original.shape} and {resynthesis.shape}"
        )
    mels = [_mel_db(waveform, sample_rate) for waveform in (original, resynthesis)]
    cents, voicing = _f0_errors(original, resynthesis, sample_rate)
    return ResynthesisMetrics(
        mel_db=float((mels[0] - mels[1]).abs().mean()),
        stft=stft_distance(original, resynthesis),
        mcd_db=mel_cepstral_distortion(mels[0], mels[1]),
        f0_rmse_cents=cents,
        voicing_error=voicing,
        pesq=pesq(original, resynthesis, sample_rate),
        stoi=stoi(original, resynthesis, sample_rate),
    )


def mean_metrics(metrics: Sequence[ResynthesisMetrics]) -> ResynthesisMetrics:
    """Return the mean of each metric over the clips where it is defined."""
    means: dict[str, Any] = {}
    for field in dataclasses.fields(ResynthesisMetrics):
        values = [getattr(one, field.name) for one in metrics]
        defined = [value for value in values if value is not None]
        means[field.name] = sum(defined) / len(defined) if defined else None
    return ResynthesisMetrics(**means)


def stft_distance(original: Samples, resynthesis: Samples) -> float | None:
    """Return the mean over resolutions of spectral convergence plus log magnitude difference.

    `None` for a silent original, for which spectral convergence is undefined.
    """
    if not original.any():
        return None
    distances = []
    for size, hop in STFT_RESOLUTIONS:
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
            .clamp(min=MIN_MAGNITUDE)
            for waveform in (original, resynthesis)
        )
        convergence = (one - other).norm() / one.norm()
        distances.append(float(convergence + (one.log() - other.log()).abs().mean()))
    return sum(distances) / len(distances)


def mel_cepstral_distortion(original: torch.Tensor, resynthesis: torch.Tensor) -> float:
    """Return the distortion in dB between two mel spectra in dB, `(n_mels, F)` each."""
    n_mels = original.shape[0]
    order, band = torch.arange(1, NUM_CEPSTRA + 1)[:, None], torch.arange(n_mels)
    basis = torch.cos(math.pi * order * (band + 0.5) / n_mels) * (2 / n_mels)
    difference = basis @ (original - resynthesis) * (math.log(10) / 20)  # of natural-log cepstra
    distance = difference.square().sum(dim=0).mul(2).sqrt().mean()
    return float(10 / math.log(10) * distance)


def pesq(original: Samples, resynthesis: Samples, sample_rate: int) -> float | None:
    """Return PESQ: narrow band at 8 kHz, otherwise wide band at 16 kHz, resampled if necessary.

    Long recordings are measured in segments, as P.862 asks, and averaged. `None` if the package is
    not installed or finds no speech.
    """
    if not original.any():
        return None
    if not resynthesis.any():
        return SILENCE_PESQ
    try:
        package: Any = require("pesq", "evaluate")
    except MachineError:
        return None
    rate = 8000 if sample_rate == 8000 else 16000
    one, other = (_resample(waveform, sample_rate, rate) for waveform in (original, resynthesis))
    values = []
    for start in range(0, len(one), MAX_PESQ_SECONDS * rate):
        segment = slice(start, start + MAX_PESQ_SECONDS * rate)
        try:
            mode = "nb" if rate == 8000 else "wb"
            values.append(float(package.pesq(rate, one[segment], other[segment], mode)))
        except package.PesqError:
            continue
    return sum(values) / len(values) if values else None


def stoi(original: Samples, resynthesis: Samples, sample_rate: int) -> float | None:
    """Return STOI; `None` if the package is not installed or there is too little speech."""
    try:
        package: Any = require("pystoi", "evaluate")
    except MachineError:
        return None
    if not original.any() or len(original) < MIN_STOI_SECONDS * sample_rate:
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = float(package.stoi(original, resynthesis, sample_rate))
    return None if caught else value


def onset_f_measure(
    waveform: NDArray[np.float32], sample_rate: int, notes: Sequence[Note]
) -> float | None:
    """Return the F-measure of a recording's onsets against a score's, 0 to 1; 1 is best.

    Args:
        waveform: `(T,)`.
        sample_rate: In Hz.
        notes: The score; notes after the end of the recording are ignored.

    Returns:
        The F-measure; `None` if the package is not installed or the score is empty.
    """
    try:
        package: Any = require("mir_eval.onset", "evaluate")
    except MachineError:
        return None
    reference = score_onsets(notes, len(waveform) / sample_rate)
    if not len(reference):
        return None
    detected = detect_onsets(waveform, sample_rate)
    if not len(detected):
        return 0.0
    return float(package.f_measure(reference, detected, window=ONSET_TOLERANCE_SECONDS)[0])


def score_onsets(notes: Sequence[Note], seconds: float) -> NDArray[np.float64]:
    """Return the onsets of the first `seconds` of a score, in order; a chord has one onset."""
    onsets: list[float] = []
    for onset in sorted(note.onset for note in notes if note.onset < seconds):
        if not onsets or onset - onsets[-1] > CHORD_SECONDS:
            onsets.append(onset)
    return np.array(onsets)


def detect_onsets(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Return the onsets in a recording, in seconds, in order.

    The flux peaks some 30 ms late on a piano: backtracking finds where each peak starts to rise.
    """
    onsets: NDArray[np.float64] = compiled_librosa().onset.onset_detect(
        y=waveform,
        sr=sample_rate,
        hop_length=round(ONSET_HOP_SECONDS * sample_rate),
        units="time",
        backtrack=True,
    )
    return onsets


def _resample(waveform: Samples, rate: int, target_rate: int) -> Samples:
    if rate == target_rate:
        return waveform
    resampled: Samples = require("soxr", "train").resample(waveform, rate, target_rate)
    return resampled


def _mel_db(waveform: Samples, sample_rate: int) -> torch.Tensor:
    """Return the mel spectrum in dB, `(80, F)`: windows of 32 ms every 8 ms."""
    win_length = 2 ** round(math.log2(0.032 * sample_rate))
    config = MelConfig(
        sample_rate=sample_rate,
        n_fft=2 * win_length,
        hop_length=win_length // 4,
        win_length=win_length,
        f_max=sample_rate / 2,
        n_mels=80 if sample_rate >= 16000 else 40,
        log_base="decibel",
        log_floor=MIN_MAGNITUDE,
    )
    mel: torch.Tensor = LogMel(config)(torch.from_numpy(waveform)[None])[0]
    return mel


def _f0_errors(
    original: Samples, resynthesis: Samples, sample_rate: int
) -> tuple[float | None, float]:
    """Return the RMSE of F0 in cents where both are voiced, and the voicing error."""
    config = F0Config(sample_rate=sample_rate, hop_length=sample_rate // 100)
    one, other = f0_features(original, config), f0_features(resynthesis, config)
    both_voiced = (one[1] > 0) & (other[1] > 0)
    cents = 1200 * (one[0] - other[0])[both_voiced]
    rmse = float(np.sqrt(np.mean(cents**2))) if both_voiced.any() else None
    return rmse, float((one[1] != other[1]).mean())
