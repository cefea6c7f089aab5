"""Linear filters applied to recordings before the model, and their inverses after it.

The product of the steps is one time-invariant filter `B(z) / A(z)`, and `A(z) / B(z)` undoes it:

- gain: a factor;
- low shelf: a first-order shelf that attenuates by `SHELF_DB` below its corner frequency; unlike a
  high-pass filter with a zero at 0 Hz it can be inverted;
- pre-emphasis: `1 - a / z`;
- noise shaping: the linear predictor of the training audio's average spectrum, weakened by a
  strength (Tachibana et al. 2018, with linear prediction instead of mel-cepstra). Rounding to
  mu-law adds white noise to the filtered signal; after the inverse filter the noise has the average
  spectrum of the speech, where it is masked.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wavenet.config import AudioConfig, FilterConfig
from wavenet.utils.errors import ConfigError, DataError, printable, require

SHELF_DB = 20.0  # attenuation of the low shelf
ORDER = 24  # of the linear predictor
MAX_MEMORY = 1 << 16  # samples of an impulse response
FADED = 1e-7  # of the impulse response's peak: under one 16-bit step


class SignalFilter:
    """The steps as one filter, for complete signals and for segments.

    Args:
        config: The steps.
        sample_rate: Of the signals, in Hz.

    Attributes:
        numerator: `B`, from z^0 on.
        denominator: `A`, from z^0 on, which is 1.
    """

    def __init__(self, config: FilterConfig, sample_rate: int) -> None:
        if config.low_shelf_hz >= sample_rate / 2:
            raise ConfigError(
                f"low_shelf_hz must be under {sample_rate / 2:g}, half the sample rate, "
                f"got {config.low_shelf_hz}"
            )
        self.numerator = np.array([config.gain])
        self.denominator = np.array([1.0])
        if config.low_shelf_hz:
            pole = math.exp(-2 * math.pi * config.low_shelf_hz / sample_rate)
            zero = 1 - (1 - pole) * 10 ** (-SHELF_DB / 20)
            self.numerator = np.convolve(self.numerator, [1.0, -zero])
            self.denominator = np.array([1.0, -pole])
        if config.pre_emphasis:
            self.numerator = np.convolve(self.numerator, [1.0, -config.pre_emphasis])
        if config.noise_shaping and config.predictor:
            powers = config.noise_shaping ** np.arange(1, len(config.predictor) + 1)
            weakened = powers * config.predictor
            self.numerator = np.convolve(self.numerator, [1.0, *weakened])

    @property
    def is_identity(self) -> bool:
        """Whether the filter returns its input."""
        return bool(self.numerator.tolist() == self.denominator.tolist() == [1.0])

    @cached_property
    def memory(self) -> int:
        """Samples before a segment that it depends on."""
        memory = len(self.numerator) - 1
        if len(self.denominator) > 1:
            pole = -self.denominator[1]
            fading = math.ceil(math.log(FADED * (1 - pole)) / math.log(pole))
            memory += min(MAX_MEMORY, fading)
        return memory

    def apply(self, waveform: Tensor) -> Tensor:
        """Return the model's signal of a recording, `(..., T)`; there is silence before it."""
        return self.valid(F.pad(waveform, (self.memory, 0)))

    def valid(self, wide: Tensor) -> Tensor:
        """Return the model's signal of a segment, given the `memory` samples before it.

        Shape:
            - Input: `(..., memory + T)`
            - Output: `(..., T)`
        """
        if self.is_identity:
            return wide
        filtered = _lfilter(self.numerator, self.denominator, wide)[..., self.memory :]
        return torch.from_numpy(np.ascontiguousarray(filtered)).to(wide)

    def inverse(self) -> "InverseFilter":
        """Return the inverse for a signal that comes in pieces, from its start."""
        return InverseFilter(self)


class InverseFilter:
    """Turns what a model generates back into a recording, piece by piece.

    Args:
        forward: The filter to undo.
    """

    def __init__(self, forward: SignalFilter) -> None:
        self.forward = forward
        self.state: NDArray[np.float64] | None = None

    def __call__(self, signal: Tensor) -> Tensor:
        """Return the next piece of the recording, `(B, T)`, of the next piece of the signal.

        Samples past 1.0 are limited.
        """
        if self.forward.is_identity:
            return signal
        b, a = self.forward.denominator, self.forward.numerator
        if self.state is None:
            self.state = np.zeros((len(signal), max(len(a), len(b)) - 1))
        samples, self.state = _lfilter(b, a, signal, self.state)
        return torch.from_numpy(samples).clamp(-1, 1).to(signal.dtype)


def build_filter(audio: AudioConfig | None) -> SignalFilter:
    """Return the filter between recordings and a model's signal; the identity without a config."""
    if audio is None:
        return SignalFilter(FilterConfig(), 1)
    return SignalFilter(audio.filter, audio.sample_rate)


def linear_predictor(autocorrelation: Tensor) -> tuple[float, ...]:
    """Return the coefficients of the linear predictor of an autocorrelation, `(ORDER + 1,)`."""
    r = autocorrelation.double().numpy().copy()
    r[0] = r[0] * (1 + 1e-9) + 1e-12  # solvable for silence too
    linalg: Any = require("scipy.linalg", "generate")
    return tuple(round(float(c), 9) for c in linalg.solve_toeplitz(r[:-1], -r[1:]))


def _lfilter(b: NDArray[Any], a: NDArray[Any], signal: Tensor, state: Any = None) -> Any:
    scipy_signal: Any = require("scipy.signal", "generate")
    return scipy_signal.lfilter(b, a, signal.detach().cpu().double().numpy(), zi=state)


def check_peak(signal: Tensor, name: str) -> None:
    """Raise a `DataError` if a recording passes 1.0 after the model's filter."""
    peak = float(signal.abs().max()) if signal.numel() else 0.0
    if peak > 1:
        raise DataError(
            f"{printable(name)}: the model's filter (audio.filter) brings it to a peak of "
            f"{peak:.3f}, past 1.0: lower its level first"
        )
