"""Metrics that compare a resynthesized recording with its original.

Both waveforms have the same length and sample rate and are aligned in time. PESQ and STOI are from
the packages `pesq` and `pystoi`, F0 is by pYIN, onsets are by librosa (spectral flux).
"""

import contextlib
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.config import F0Config, MelConfig
from wavenet.features.f0 import compiled_librosa, f0_features
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
        stft: Multi-resolution STFT distance (Yamamoto et al. 2020, Parallel WaveGAN); 0 is best.
        mcd_db: Mel-cepstral distortion (Kubichek 1993), in dB; 0 is best.
        f0_rmse_cents: Root mean square error of F0 where both are voiced; 0 is best.
        voicing_error: Fraction of frames that are voiced in only one of the two; 0 is best.
        pesq: ITU-T P.862, about 1 to 4.5; higher is better.
        stoi: Taal et al. 2011, up to 1; higher is better.
    """

    mel_db: float
    stft: float | None
    mcd_db: float
    f0_rmse_cents: float | None
    voicing_error: float
    pesq: float | None
    stoi: float | None


@dataclass
class Original:
    """A recording that resyntheses are compared with; what each comparison needs is computed once.

    Attributes:
        waveform: `(T,)`.
        sample_rate: In Hz.
    """

    waveform: Samples
    sample_rate: int

    @cached_property
    def mel_db(self) -> torch.Tensor:
        """Its mel spectrum in dB."""
        return _mel_db(self.waveform, self.sample_rate)

    @cached_property
    def f0(self) -> Samples:
        """Its F0, voicing and probability of voicing, see `f0_features`."""
        return _f0(self.waveform, self.sample_rate)

    def compare(self, resynthesis: Samples) -> ResynthesisMetrics:
        """Return the metrics of a resynthesis, `(T,)`.

        Raises:
            ValueError: The lengths differ.
        """
        original, rate = self.waveform, self.sample_rate
        if original.shape != resynthesis.shape or original.ndim != 1:
            raise ValueError(
                f"expected two waveforms (T,), got {original.shape} and {resynthesis.shape}"
            )
        mel = _mel_db(resynthesis, rate)
        cents, voicing = _f0_errors(self.f0, _f0(resynthesis, rate))
        return ResynthesisMetrics(
            mel_db=float((self.mel_db - mel).abs().mean()),
            stft=stft_distance(original, resynthesis),
            mcd_db=mel_cepstral_distortion(self.mel_db, mel),
            f0_rmse_cents=cents,
            voicing_error=voicing,
            pesq=pesq(original, resynthesis, rate),
            stoi=stoi(original, resynthesis, rate),
        )


def mean_metrics(metrics: Sequence[ResynthesisMetrics]) -> ResynthesisMetrics:
    """Return the mean of each metric over the clips where it is defined."""
    means: Any = map(mean_of_defined, zip(*map(astuple, metrics), strict=True))
    return ResynthesisMetrics(*means)


def mean_of_defined(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not `None`; `None` if there is none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def stft_distance(original: Samples, resynthesis: Samples) -> float | None:
    """Return the mean over resolutions of spectral convergence plus log magnitude difference.

    `None` for a silent original, for which spectral convergence is undefined.
    """
    if not original.any():
        return None
    distances = []
    for size, hop in STFT_RESOLUTIONS:
        form: Any = {"window": torch.hann_window(size), "pad_mode": "constant"}
        spectra = [
            torch.stft(torch.from_numpy(waveform), size, hop, return_complex=True, **form)
            for waveform in (original, resynthesis)
        ]
        one, other = (spectrum.abs().clamp(min=MIN_MAGNITUDE) for spectrum in spectra)
        convergence = (one - other).norm() / one.norm()
        distances.append(float(convergence + (one.log() - other.log()).abs().mean()))
    return sum(distances) / len(distances)


def mel_cepstral_distortion(original: torch.Tensor, resynthesis: torch.Tensor) -> float:
    """Return the distortion in dB between two mel spectra in dB, `(n_mels, F)` each.

    It compares the 13 cepstral coefficients after the first, which is the loudness.
    """
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
    package = _package("pesq")
    if package is None:
        return None
    rate, mode = (8000, "nb") if sample_rate == 8000 else (16000, "wb")
    one, other = original, resynthesis
    if sample_rate != rate:
        soxr: Any = require("soxr", "train")
        one, other = (soxr.resample(waveform, sample_rate, rate) for waveform in (one, other))
    values = []
    for start in range(0, len(one), MAX_PESQ_SECONDS * rate):
        segment = slice(start, start + MAX_PESQ_SECONDS * rate)
        with contextlib.suppress(package.PesqError):
            values.append(float(package.pesq(rate, one[segment], other[segment], mode)))
    return mean_of_defined(values)


def stoi(original: Samples, resynthesis: Samples, sample_rate: int) -> float | None:
    """Return STOI; `None` if the package is not installed or there is too little speech."""
    package = _package("pystoi")
    too_short = len(original) < MIN_STOI_SECONDS * sample_rate
    if package is None or too_short or not original.any():
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = float(package.stoi(original, resynthesis, sample_rate))
    return None if caught else value


def onset_f_measure(waveform: Samples, sample_rate: int, notes: Sequence[Note]) -> float | None:
    """Return the F-measure of a recording's onsets against a score's, 0 to 1; 1 is best.

    An onset is right within 50 ms; they are matched by mir_eval (Raffel et al. 2014).

    Args:
        waveform: `(T,)`.
        sample_rate: In Hz.
        notes: The score; notes after the end of the recording are ignored.

    Returns:
        The F-measure; `None` if the package is not installed or the score is empty.
    """
    package = _package("mir_eval.onset")
    reference = score_onsets(notes, len(waveform) / sample_rate)
    if package is None or not len(reference):
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


def detect_onsets(waveform: Samples, sample_rate: int) -> NDArray[np.float64]:
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


def unmeasured(metrics: Iterable[ResynthesisMetrics], onsets: Iterable[float | None] = ()) -> str:
    """Return which metrics lack their package, and what installs it; empty if none does.

    Args:
        metrics: As measured.
        onsets: F-measures of onsets, as measured.
    """
    every = [*metrics]
    found = {
        "PESQ": ("pesq", [one.pesq for one in every]),
        "STOI": ("pystoi", [one.stoi for one in every]),
        "onsets": ("mir_eval", [*onsets]),
    }
    lacking = {
        name: package
        for name, (package, values) in found.items()
        if None in values and _package(package) is None
    }
    names, packages = ", ".join(lacking), ", ".join(lacking.values())
    install = "pip install 'torch-wavenet[evaluate]'"
    return f"Not measured, for want of {packages}: {names}; {install}" if lacking else ""


def _package(name: str) -> Any:
    """Return a package of the extra `evaluate`; `None` if it is not installed."""
    try:
        return require(name, "evaluate")
    except MachineError:
        return None


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


def _f0(waveform: Samples, sample_rate: int) -> Samples:
    """Return F0, voicing and probability of voicing every 10 ms, `(3, F)`."""
    return f0_features(waveform, F0Config(sample_rate=sample_rate, hop_length=sample_rate // 100))


def _f0_errors(one: Samples, other: Samples) -> tuple[float | None, float]:
    """Return the RMSE of F0 in cents where both are voiced, and the voicing error."""
    both_voiced = (one[1] > 0) & (other[1] > 0)
    cents = 1200 * (one[0] - other[0])[both_voiced]
    rmse = float(np.sqrt(np.mean(cents**2))) if both_voiced.any() else None
    return rmse, float((one[1] != other[1]).mean())
