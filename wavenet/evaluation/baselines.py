"""Baselines that need no neural network: four for bits per sample, two for resynthesis.

Bits per sample. Silence, loudness and a short memory explain much of a signal; these say how much.
All four model the codes of a distribution and are fitted on the audio that they are scored on,
which favors them: a model that reaches the same value on unseen audio is better.

- `uniform`: every code has the same probability.
- `histogram`: each code has its relative frequency; no memory.
- `linear_prediction`: a density of fixed width around the prediction from the last 16 samples; the
  probability of a code is the mass in its bin. The density is a Laplace density: its tails fit the
  mixture of loud and quiet (on 103 s of 8 kHz speech 6.33 bits; logistic 6.54, Gauss 6.78).
- `adaptive_linear_prediction`: the same with a width that follows the recent residuals. The density
  is logistic: with the loudness known, the tails are lighter (the same speech: 4.94 bits; Gauss
  4.98, Laplace 4.99).

Resynthesis. `quantized` is the original after the model's own quantization, the best that its
output can be. `griffin_lim` inverts the mel spectrogram and knows nothing of speech; it is one of
`MEL_CONTROLS`, which show what of a resynthesis is in the mel already.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from wavenet.config import MelConfig
from wavenet.distributions import Distribution
from wavenet.features.filters import SignalFilter
from wavenet.features.mel import LogMel
from wavenet.features.mel_consistency import can_overlap_add
from wavenet.utils.errors import require

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Codes: TypeAlias = npt.NDArray[np.integer[Any]]
Samples: TypeAlias = npt.NDArray[np.float32]
LogProbability: TypeAlias = Callable[[Array, Array, Array], Array]

PREDICTION_ORDER = 16
GRIFFIN_LIM = "Griffin-Lim"
GRIFFIN_LIM_ITERATIONS = 60
_CHUNK_SAMPLES = 1 << 16  # bounds the memory
_GRID_SAMPLES = 200_000  # enough to choose a time constant and a smallest scale
_TIME_CONSTANTS = (2, 4, 8, 16, 32, 64)  # of the mean of residuals, in samples
_MIN_SCALES = (0.06, 0.12, 0.25, 0.5, 1.0)  # in widths of the central bin


def baselines(clips: Iterable[Array], distribution: Distribution) -> dict[str, float]:
    """Return bits per sample by name of baseline, simplest first.

    Args:
        clips: Mono waveforms in [-1, 1], `(T,)` each, preceded by silence.
        distribution: Defines the codes; its parameters do not matter.

    Raises:
        ValueError: There is no sample.
        MachineError: scipy is not installed.
    """
    num_classes = distribution.num_classes
    values = distribution.decode(torch.arange(num_classes), torch.float64).numpy()
    signals = [torch.from_numpy(np.array(clip, np.float32)) for clip in clips if len(clip)]
    codes = [distribution.encode(signal).to(torch.int32).numpy() for signal in signals]
    if not codes:
        raise ValueError("baselines need at least one sample, got none")
    flat = np.concatenate(codes)
    counts = np.bincount(flat)
    frequency = counts[counts > 0] / len(flat)
    edges = decision_edges(distribution)
    predictor = fit_predictor((values[clip] for clip in codes), PREDICTION_ORDER)
    residuals = [prediction_residual(values[clip], predictor) for clip in codes]
    predictions = np.concatenate(
        [values[clip] - residual for clip, residual in zip(codes, residuals, strict=True)]
    )
    fixed = np.broadcast_to(_mean_magnitude(residuals), flat.shape)
    central_bin = float(values[num_classes // 2] - values[num_classes // 2 - 1])
    adaptive = _best_scales(flat, predictions, residuals, edges, central_bin)
    return {
        "uniform": math.log2(num_classes),
        "histogram": float(-(frequency * np.log2(frequency)).sum()),
        "linear_prediction": _bits(flat, predictions, fixed, edges, log_laplace),
        "adaptive_linear_prediction": _bits(flat, predictions, adaptive, edges, log_logistic),
    }


def decision_edges(distribution: Distribution) -> Array:
    """Return the bin edges of the codes, `(num_classes + 1,)`; the outer ones are infinite."""
    return np.concatenate([[-np.inf], distribution.decision_edges().numpy(), [np.inf]])


def fit_predictor(signals: Iterable[Array], order: int) -> Array:
    """Return the weights `(order,)`, latest sample first, of the least-squares predictor."""
    products = np.zeros((order + 1, order + 1))
    for signal in signals:
        padded = np.pad(signal, (order, 0))
        for start in range(0, len(signal), _CHUNK_SAMPLES):
            chunk = padded[start : start + _CHUNK_SAMPLES + order]
            lags = np.lib.stride_tricks.sliding_window_view(chunk, order + 1)
            products += np.ascontiguousarray(lags).T @ lags
    weights: Array = np.linalg.lstsq(products[:-1, :-1], products[:-1, -1])[0]
    return weights[::-1]


def prediction_residual(signal: Array, predictor: Array) -> Array:
    """Return the signal minus its prediction from the samples before it, `(T,)`."""
    filters = require("scipy.signal", "train")
    residual: Array = filters.lfilter(np.concatenate([[1.0], -predictor]), [1.0], signal)
    return residual


def running_magnitude(residual: Array, time_constant: float, initial: float) -> Array:
    """Return for each sample the mean magnitude of the residuals before it, `(T,)`.

    Args:
        residual: `(T,)`.
        time_constant: Samples after which a residual's weight has fallen to 1/e.
        initial: Mean magnitude before the first sample.
    """
    filters = require("scipy.signal", "train")
    decay = math.exp(-1 / time_constant)
    magnitude = np.abs(residual)
    mean, _ = filters.lfilter([1 - decay], [1.0, -decay], magnitude, zi=[decay * initial])
    return np.concatenate([[initial], mean[:-1]])


def log_laplace(lower: Array, upper: Array, scale: Array) -> Array:
    """Return the log probability of [lower, upper] under a Laplace density with mean 0.

    Args:
        lower: Lower end, may be -inf; the three arrays broadcast.
        upper: Upper end, may be inf.
        scale: Mean magnitude under the density.
    """
    mirrored = lower + upper < 0  # differences are precise in the upper tail only
    a = np.where(mirrored, -upper, lower) / scale
    b = np.where(mirrored, -lower, upper) / scale
    tail = np.maximum(a, 0)
    twice = np.where(a > 0, -np.expm1(tail - b), -np.expm1(np.minimum(a, 0)) - np.expm1(-b))
    log_probability: Array = np.log(twice / 2) - tail
    return log_probability


def log_logistic(lower: Array, upper: Array, scale: Array) -> Array:
    """Return the log probability of [lower, upper] under a logistic density with mean 0.

    The arguments are those of `log_laplace`.
    """
    width = scale / math.log(4)
    a, b = lower / width, upper / width
    # sigmoid(b) - sigmoid(a) without a difference of close numbers; exp(350) squared fits a double
    denominator = (1 + np.exp(np.minimum(a, 350))) * (1 + np.exp(np.minimum(-b, 350)))
    log_probability: Array = np.log(-np.expm1(a - b) / denominator)
    return log_probability


def quantized(
    waveform: Samples, distribution: Distribution, signal_filter: SignalFilter
) -> Samples:
    """Return a waveform, `(T,)`, after the quantization of a model's output."""
    signal = distribution.quantize(signal_filter.apply(torch.from_numpy(waveform)))
    result: Samples = signal_filter.inverse()(signal[None])[0].numpy()
    return result


def is_invertible(mel: MelConfig) -> bool:
    """Return whether the FFT and the overlap of the windows are as Griffin-Lim requires."""
    return mel.n_fft % 2 == 0 and can_overlap_add(mel)


def griffin_lim(
    waveform: Samples, mel: MelConfig, iterations: int = GRIFFIN_LIM_ITERATIONS
) -> Samples:
    """Return the Griffin-Lim reconstruction of a waveform from its mel spectrogram, `(T,)`.

    The mel filter bank is inverted by non-negative least squares; the initial phases come from a
    fixed seed.

    Args:
        waveform: The original, `(T,)`.
        mel: The mel preset.
        iterations: Of the fast algorithm (Perraudin et al. 2013), momentum 0.99.
    """
    length = len(waveform)
    waveform = np.pad(waveform, (0, max(0, mel.n_fft - length)))  # reflection needs half a window
    layer = LogMel(mel)
    frames = layer(torch.from_numpy(waveform)[None])[0] * layer.std + layer.mean
    if mel.log_base == "natural":
        value = frames.exp()
    else:
        value = 10 ** (frames / (20 / mel.power if mel.log_base == "decibel" else 1))
    magnitude = _non_negative_least_squares(layer.bank, value)
    if mel.power == 2:
        magnitude = magnitude.sqrt()
    extra = 1 + len(waveform) // mel.hop_length - magnitude.shape[1]  # torch centers one on the end
    magnitude = torch.cat([magnitude, magnitude[:, -1:].expand(-1, extra)], dim=1)
    functional: Any = require("torchaudio", "train").functional
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        result = functional.griffinlim(
            magnitude,
            torch.hann_window(mel.win_length),
            mel.n_fft,
            mel.hop_length,
            mel.win_length,
            power=1.0,
            n_iter=iterations,
            momentum=0.99,
            length=len(waveform),
            rand_init=True,
        )
    clipped: Samples = result[:length].clamp(-1, 1).numpy()
    return clipped


# Signals from the mel of an original, `(T,)`, without a trained model, by name. Evaluation applies
# mel consistency to each of them as well.
MEL_CONTROLS: dict[str, Callable[[Samples, MelConfig], Samples]] = {GRIFFIN_LIM: griffin_lim}


def _non_negative_least_squares(bank: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    """Return magnitudes of 0 or more, `(bins, F)`: multiplicative updates (Lee and Seung 2001)."""
    x: torch.Tensor = (torch.linalg.pinv(bank) @ mel).clamp(min=1e-6)
    target = bank.T @ mel
    product = bank.T @ bank
    for _ in range(200):
        x = x * target / (product @ x).clamp(min=1e-12)
    return x


def _best_scales(
    codes: Codes, predictions: Array, residuals: Sequence[Array], edges: Array, central_bin: float
) -> Array:
    """Return the expected magnitude of the residual at each sample, `(T,)`, by grid search."""
    initial = _mean_magnitude(residuals)

    def magnitudes(time_constant: float) -> Array:
        return np.concatenate([running_magnitude(r, time_constant, initial) for r in residuals])

    stride = -(-len(codes) // _GRID_SAMPLES)
    candidates = []
    for time_constant in _TIME_CONSTANTS:
        scales = magnitudes(time_constant)[::stride].copy()
        for min_scale in _MIN_SCALES:
            smallest = min_scale * central_bin
            clamped = np.maximum(scales, smallest)
            bits = _bits(codes[::stride], predictions[::stride], clamped, edges, log_logistic)
            candidates.append((bits, time_constant, smallest))
    _, time_constant, smallest = min(candidates)
    return np.maximum(magnitudes(time_constant), smallest)


def _bits(
    codes: Codes, predictions: Array, scales: Array, edges: Array, log_probability: LogProbability
) -> float:
    nats = 0.0
    for start in range(0, len(codes), _CHUNK_SAMPLES):
        chunk = slice(start, start + _CHUNK_SAMPLES)
        code, center = codes[chunk], predictions[chunk]
        lower, upper = edges[code] - center, edges[code + 1] - center
        nats -= float(log_probability(lower, upper, scales[chunk]).sum())
    return nats / len(codes) / math.log(2)


def _mean_magnitude(residuals: Sequence[Array]) -> float:
    total = sum(float(np.abs(residual).sum()) for residual in residuals)
    return max(total / sum(map(len, residuals)), 1e-12)  # silence is predicted exactly
