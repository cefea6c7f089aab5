"""What a recipe does to a signal before the model hears it, and how that is undone after.

Each step is a linear filter that does not change over time, so their product is one filter
`B(z) / A(z)`, and `A(z) / B(z)` undoes it:

- gain: a factor;
- high-pass: a first-order shelf that takes `SHELF_DB` from what lies below its corner, and so can
  be undone, which a filter with a zero at 0 Hz cannot;
- pre-emphasis: `1 - a / z`;
- noise shaping: the linear predictor of the training audio's average spectrum, pulled towards no
  filter by a strength (Tachibana et al. 2018, with prediction in place of mel-cepstra). Rounding to
  mu-law adds white noise to the filtered signal; undone, the noise has the speech's own average
  spectrum, under which it is less heard.
"""

import math
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.config import AudioConfig, FilterConfig
from wavenet.utils.dataclass_io import check
from wavenet.utils.errors import DataError, printable

SHELF_DB = 20.0  # of the high-pass
ORDER = 24  # of the linear predictor
LONGEST = 1 << 16  # samples of an impulse response
NOTHING = 1e-7  # of the impulse response's peak: under 16 bits and then some


class Shaping:
    """The steps as a filter, for whole signals and for pieces.

    Args:
        config: The steps.
        sample_rate: Of the signals, in Hz.

    Attributes:
        numerator: `B`, from z^0 on.
        denominator: `A`, from z^0 on, which is 1.
    """

    def __init__(self, config: FilterConfig, sample_rate: int) -> None:
        limit = sample_rate / 2
        good = config.low_shelf_hz < limit
        check(good, "high_pass", f"under {limit:g}, half the rate", config.low_shelf_hz)
        self.numerator = [config.gain]
        self.denominator = [1.0]
        if config.low_shelf_hz:
            pole = math.exp(-2 * math.pi * config.low_shelf_hz / sample_rate)
            zero = 1 - (1 - pole) * 10 ** (-SHELF_DB / 20)
            self.numerator = _product(self.numerator, [1.0, -zero])
            self.denominator = [1.0, -pole]
        if config.pre_emphasis:
            self.numerator = _product(self.numerator, [1.0, -config.pre_emphasis])
        if config.noise_shaping and config.predictor:
            pulled = [c * config.noise_shaping ** (k + 1) for k, c in enumerate(config.predictor)]
            self.numerator = _product(self.numerator, [1.0, *pulled])

    @cached_property
    def response(self) -> Tensor:
        """The filter's answer to an impulse, `(L,)` float64, to where it has faded."""
        length = len(self.numerator)
        pole = -self.denominator[1] if len(self.denominator) > 1 else 0.0
        if pole:
            length += min(LONGEST, math.ceil(math.log(NOTHING * (1 - pole)) / math.log(pole)))
        answer = torch.zeros(length, dtype=torch.float64)
        before = 0.0
        for index in range(length):
            before = before * pole + (self.numerator[index] if index < len(self.numerator) else 0.0)
            answer[index] = before
        return answer

    @property
    def memory(self) -> int:
        """Samples before an excerpt that it depends on."""
        return len(self.response) - 1

    def apply(self, waveform: Tensor) -> Tensor:
        """Return what a model hears of a recording, `(..., T)`; before it is silence."""
        return self.valid(F.pad(waveform, (self.memory, 0)))

    def valid(self, wide: Tensor) -> Tensor:
        """Return what a model hears of an excerpt, given the `memory` samples before it.

        Shape:
            - Input: `(..., memory + T)`
            - Output: `(..., T)`
        """
        if self.response.tolist() == [1.0]:
            return wide
        size = 2 ** math.ceil(math.log2(wide.shape[-1]))  # no wrap reaches what is kept
        spectrum = torch.fft.rfft(self.response.to(wide.device), size)
        product = torch.fft.rfft(wide.double(), size) * spectrum
        whole: Tensor = torch.fft.irfft(product, size)[..., self.memory : wide.shape[-1]]
        return whole.to(wide.dtype)

    def undone(self) -> "Undone":
        """Return what undoes the steps on a signal that comes in pieces, from its start on."""
        return Undone(self)


class Undone:
    """Brings what a model draws back to a recording, piece by piece.

    Args:
        shaping: The steps.
    """

    def __init__(self, shaping: Shaping) -> None:
        first = shaping.numerator[0]
        self.forward = torch.tensor(shaping.denominator, dtype=torch.float64) / first
        self.back = -torch.tensor(shaping.numerator[1:], dtype=torch.float64) / first
        self.heard: Tensor | None = None
        self.said: Tensor | None = None

    def __call__(self, signal: Tensor) -> Tensor:
        """Return the next piece of the recording, `(B, T)`, of the next piece of the signal.

        Samples past 1.0, which a quiet model cannot mean, are limited.
        """
        if not len(self.back) and self.forward.tolist() == [1.0]:
            return signal
        batch, length = signal.shape
        ahead, order = len(self.forward) - 1, len(self.back)
        if self.heard is None or self.said is None:
            self.heard = torch.zeros(batch, ahead, dtype=torch.float64)
            self.said = torch.zeros(batch, order, dtype=torch.float64)
        heard = torch.cat([self.heard, signal.cpu().double()], dim=1)
        driven = F.conv1d(heard[:, None], self.forward.flip(0)[None, None])[:, 0].numpy()
        said = torch.cat([self.said, torch.zeros(batch, length, dtype=torch.float64)], dim=1)
        samples, back = said.numpy(), self.back.flip(0).numpy()
        for index in range(length):
            samples[:, order + index] = driven[:, index] + samples[:, index : index + order] @ back
        self.heard, self.said = heard[:, length:], said[:, length:].clone()
        return said[:, order:].clamp(-1, 1).to(signal.dtype)


def shaping_of(audio: AudioConfig | None) -> Shaping:
    """Return the steps between recordings and a model's signal; none where nothing is known."""
    if audio is None:
        return Shaping(FilterConfig(), 1)
    return Shaping(audio.filter, audio.sample_rate)


def predictor_of(autocorrelation: Tensor) -> tuple[float, ...]:
    """Return the linear predictor of an autocorrelation, `(ORDER + 1,)`, by Levinson and Durbin."""
    r = autocorrelation.double().clone()
    r[0] = r[0] * (1 + 1e-9) + 1e-12  # silence has a predictor too
    found, error = torch.zeros(0, dtype=torch.float64), r[0]
    for order in range(1, len(r)):
        reflection = -(r[order] + found @ r[1:order].flip(0)) / error
        found = torch.cat([found + reflection * found.flip(0), reflection[None]])
        error = error * (1 - reflection**2)
    return tuple(round(float(c), 9) for c in found)


def _product(one: list[float], other: list[float]) -> list[float]:
    """Return the coefficients of the product of two polynomials."""
    result = [0.0] * (len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            result[i + j] += a * b
    return result


def check_peak(signal: Tensor, name: str) -> None:
    """Raise a `DataError` where the model's steps bring a recording past 1.0."""
    peak = float(signal.abs().max()) if signal.numel() else 0.0
    if peak > 1:
        raise DataError(
            f"{printable(name)}: what is done before the model hears it (audio.filter) brings it "
            f"to a peak of {peak:.3f}, past 1.0: lower its level first"
        )
