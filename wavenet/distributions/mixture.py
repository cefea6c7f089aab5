"""Mixtures of continuous densities over the 65,536 codes of a 16-bit sample.

The probability of a code is the integral of the density over the code's bin; the outermost bins
extend to infinity, so the probabilities of all codes sum to 1. In units of a component's scale, let
`m` be the distance from the mean to the bin's center, and `d` half the bin's width. Each density
implements the logarithm of its mass in [m - d, m + d], accurate also for distant and narrow bins.

PixelCNN++ (arXiv:1701.05517); Parallel WaveNet (arXiv:1711.10433), section 2.1; the single
Gaussian is ClariNet's (arXiv:1807.07281).
"""

from __future__ import annotations  # help() shows Array by its name

import abc
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.config import WaveNetConfig
from wavenet.distributions.categorical import pick
from wavenet.distributions.distribution import (
    Distribution,
    SamplingConfig,
    as_codes,
    raise_if_nonfinite,
    register,
    widen,
)
from wavenet.utils.arrays import Array, as_tensor
from wavenet.utils.errors import ConfigError
from wavenet.utils.shared_constants import LEVELS, MIN_UNIFORM

HALF_BIN_WIDTH = 1 / LEVELS  # for waveforms in [-1, 1]
NARROW_BIN = 0.02  # d below which a Gaussian is nearly flat over the bin
MAX_LOG_MASS_RATIO = -0.03  # of the masses below a wide bin's edges; larger ones are rounding
GAUSSIAN_TAIL_START = -30.0  # below it, the tail is computed by its asymptotic series


class Mixture(Distribution):
    """Mixture of densities, discretized to 16 bits.

    The parameters of a sample are `num_mixtures` logits of the weights (none for a single
    component), as many means, in units of the waveform, and as many log scales.

    The temperature divides the logits and multiplies the scales; at 0 a draw is the mean of the
    component with the largest weight, the first on ties. That is also the `mode`.

    Args:
        num_mixtures: Number of components.
        min_log_scale: Smaller log scales are set to this.
    """

    fixed_num_classes = LEVELS
    num_classes = LEVELS

    def __init__(self, num_mixtures: int = 10, min_log_scale: float = -14.0) -> None:
        self.num_mixtures = num_mixtures
        self.min_log_scale = min_log_scale
        self.num_params = 3 * num_mixtures if num_mixtures > 1 else 2
        self.num_noise = 2 if num_mixtures > 1 else 1

    @classmethod
    def from_config(cls, config: WaveNetConfig) -> Mixture:
        return cls(config.num_mixtures, config.min_log_scale)

    def encode(self, waveform: Array) -> Tensor:
        waveform = as_tensor("waveform", waveform, self)
        codes = (widen(waveform) * (LEVELS // 2)).round().clamp(-LEVELS // 2, LEVELS // 2 - 1)
        return codes.to(torch.int64) + LEVELS // 2

    def decode(self, codes: Array, dtype: torch.dtype = torch.float32) -> Tensor:
        return (as_codes(codes) - LEVELS // 2).to(dtype) / (LEVELS // 2)

    def nll(self, params: Array, waveform: Array) -> Tensor:
        params = as_tensor("params", params, self)
        waveform = as_tensor("waveform", waveform, params)
        params = widen(params)
        logits, means, log_scales = self.split(params)
        codes = self.encode(waveform).unsqueeze(1)
        inverse = torch.exp(-log_scales)
        m, d = (self.decode(codes, params.dtype) - means) * inverse, HALF_BIN_WIDTH * inverse
        lowest, highest = self.log_below(m + d), self.log_below(d - m)
        mass = torch.where(codes == 0, lowest, self.log_mass(m, d))
        mass = torch.where(codes == LEVELS - 1, highest, mass)
        return -torch.logsumexp(F.log_softmax(logits, dim=1) + mass, dim=1)

    def sample(self, params: Tensor, noise: Tensor, sampling: SamplingConfig) -> Tensor:
        self.check(sampling)
        raise_if_nonfinite(self.drawable(params))
        return self.decode(self.draw(params, noise, sampling), params.dtype)

    def drawable(self, params: Tensor) -> Tensor:
        """Return whether each item has finite parameters only, `(B,)`, for params `(B, P)`."""
        return params.isfinite().all(dim=1)

    def draw(self, params: Tensor, noise: Tensor, sampling: SamplingConfig) -> Tensor:
        """Return the code of `sample`, `(B,)`, unchecked: tensor operations of fixed shapes."""
        logits, means, log_scales = self.split(params.double())
        if self.num_mixtures == 1 or sampling.temperature == 0:
            chosen = logits.argmax(dim=1)
        else:
            peak = logits.max(dim=1, keepdim=True).values
            chosen = pick(((logits - peak) / sampling.temperature).exp(), noise[:, :1])
        chosen = chosen.unsqueeze(1)
        value = means.gather(1, chosen)
        if sampling.temperature:
            uniform = noise[:, -1:].double() * (1 - 2 * MIN_UNIFORM) + MIN_UNIFORM
            scale = log_scales.gather(1, chosen).exp() * sampling.temperature
            value = value + scale * self.quantile(uniform)
        return self.encode(value.squeeze(1))

    def mode(self, params: Tensor) -> Tensor:
        logits, means, _ = self.split(params)
        heaviest = logits.argmax(dim=1, keepdim=True)
        return self.quantize(means.gather(1, heaviest).squeeze(1))

    def check(self, sampling: SamplingConfig) -> None:
        if sampling.top_k is not None or sampling.top_p is not None or sampling.probability_floor:
            raise ConfigError(
                "top_k, top_p and probability_floor choose among classes, but this model draws "
                "from a density: leave them out and lower the temperature instead"
            )

    def describe(self) -> str:
        kind = self.name.removesuffix("_mixture").capitalize()
        return f"{kind} densities over 16-bit codes: {self.num_mixtures}"

    def initial_bias(self) -> Tensor:
        scales = torch.full((self.num_mixtures,), -3.0)
        if self.num_mixtures == 1:
            return torch.cat([torch.zeros(1), scales])
        means = torch.linspace(-0.3, 0.3, self.num_mixtures)
        return torch.cat([torch.zeros(self.num_mixtures), means, scales])

    def affine(self, params: Tensor, offset: Tensor, factor: Tensor) -> Tensor:
        """Return the parameters of `offset + factor * x` for those of `x`, `(B, P, ...)`.

        Offset and factor, positive, are `(B, ...)`; the result is float32 at least.
        """
        *logits, means, log_scales = torch.split(widen(params), self.num_mixtures, dim=1)
        offset, factor = offset.unsqueeze(1), factor.unsqueeze(1)
        return torch.cat([*logits, offset + factor * means, log_scales + factor.log()], dim=1)

    def split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, means and log scales, `(B, num_mixtures, ...)` each."""
        if self.num_mixtures == 1:
            means, log_scales = params[:, :1], params[:, 1:]
            return torch.zeros_like(means), means, log_scales.clamp(min=self.min_log_scale)
        logits, means, log_scales = params.chunk(3, dim=1)
        return logits, means, log_scales.clamp(min=self.min_log_scale)

    @abc.abstractmethod
    def log_mass(self, m: Tensor, d: Tensor) -> Tensor:
        """Return the logarithm of the standard density's mass in [m - d, m + d]."""

    @abc.abstractmethod
    def log_below(self, x: Tensor) -> Tensor:
        """Return the logarithm of the standard density's mass below `x`."""

    @abc.abstractmethod
    def quantile(self, uniform: Tensor) -> Tensor:
        """Return the number below which the standard density has the mass `uniform`, in (0, 1)."""


@register
class LogisticMixture(Mixture):
    """Discretized mixture of logistics."""

    name = "logistic_mixture"
    compiled_draw = "logistic_mixture"

    def log_mass(self, m: Tensor, d: Tensor) -> Tensor:
        # sigmoid(m + d) - sigmoid(m - d) = sinh(d) / (cosh(m) + cosh(d))
        sinh = d + torch.log(-torch.expm1(-2 * d))
        cosh = torch.logaddexp(torch.logaddexp(m, -m), torch.logaddexp(d, -d))
        return sinh - cosh

    def log_below(self, x: Tensor) -> Tensor:
        return F.logsigmoid(x)

    def quantile(self, uniform: Tensor) -> Tensor:
        return torch.log(uniform) - torch.log1p(-uniform)


@register
class GaussianMixture(Mixture):
    """Discretized mixture of Gaussians; with one component, a single Gaussian."""

    name = "gaussian_mixture"
    compiled_draw = "gaussian_mixture"

    def log_mass(self, m: Tensor, d: Tensor) -> Tensor:
        m = m.abs()
        # In narrow bins a difference would cancel; there e^(-x^2/2) is about e^(-m^2/2) e^(-mt).
        narrow = d.clamp(max=NARROW_BIN)
        flat = torch.log(2 * narrow) - (m.square() + math.log(2 * math.pi)) / 2
        flat = flat + log_sinhc(narrow * m) - narrow.square() / 6
        wide = d.clamp(min=NARROW_BIN)
        upper, lower = self.log_below(wide - m), self.log_below(-wide - m)
        log_ratio = (lower - upper).clamp(max=MAX_LOG_MASS_RATIO)
        return torch.where(d < NARROW_BIN, flat, upper + torch.log(-torch.expm1(log_ratio)))

    def log_below(self, x: Tensor) -> Tensor:
        start = GAUSSIAN_TAIL_START  # further out torch's function has no finite gradient
        far = x.clamp(max=start)
        tail = -far.square() / 2 - torch.log(-far) - math.log(2 * math.pi) / 2 - far**-2
        return torch.where(x < start, tail, torch.special.log_ndtr(x.clamp(min=start)))

    def quantile(self, uniform: Tensor) -> Tensor:
        number: Tensor = torch.special.ndtri(uniform)
        return number


def log_sinhc(x: Tensor) -> Tensor:
    """Return log(sinh(x) / x) for `x` of 0 or more."""
    large = x.clamp(min=0.1)
    exact = large + torch.log(-torch.expm1(-2 * large)) - torch.log(2 * large)
    return torch.where(x < 0.1, x.square() / 6 - x.square().square() / 180, exact)
