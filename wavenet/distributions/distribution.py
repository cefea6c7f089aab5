"""What all output distributions have in common, their registry, and how a sample is drawn.

A distribution has `num_params` parameters per sample and takes `num_noise` uniforms to draw one. It
owns the quantization: the network and the data know waveforms in [-1, 1] only.
"""

from __future__ import annotations  # help() shows Array by its name

import abc
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from wavenet.config import OUTPUT_DISTRIBUTIONS, WaveNetConfig
from wavenet.utils.arrays import Array, as_tensor, real_number, whole_number
from wavenet.utils.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a sample is drawn.

    Attributes:
        temperature: Below 1, likely values become likelier; 0 takes the most likely one, the lowest
            class on ties.
        voiced_temperature: That of voiced samples, of which a linear predictor from the mel
            explains most; `None` for `temperature`. Samplers know them, a distribution does not.
        top_k: Draw from this many most likely classes only.
        top_p: Draw from the fewest most likely classes that together have this probability.
        probability_floor: Taken from the probability of every class, before top-k and top-p;
            classes below it are left out. Keeps out rare clicks (LPCNet, arXiv:1810.11846).
    """

    temperature: float = 1.0
    voiced_temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    probability_floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("temperature", "probability_floor"):
            real_number(name, getattr(self, name))
        if self.voiced_temperature is not None:
            real_number("voiced_temperature", self.voiced_temperature)
        if self.top_k is not None:
            whole_number("top_k", self.top_k)
        if self.top_p is not None:
            real_number("top_p", self.top_p)
        for name in ("temperature", "voiced_temperature"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be 0 or more, got {value}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be 1 or more, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if not 0 <= self.probability_floor < 1:
            raise ValueError(f"probability_floor must be in [0, 1), got {self.probability_floor}")

    @property
    def temperatures(self) -> str:
        """The temperature, and that of voiced samples if they have another one, in words."""
        voiced = self.voiced_temperature
        return f"{self.temperature:g}" + ("" if voiced is None else f", voiced {voiced:g}")

    def of_voiced(self) -> SamplingConfig:
        """Return how voiced samples are drawn."""
        if self.voiced_temperature is None:
            return self
        return dataclasses.replace(self, temperature=self.voiced_temperature)


class Distribution(abc.ABC):
    """Distribution of one sample over its codes.

    Attributes:
        name: Value of `output_distribution` that selects the class.
        fixed_num_classes: The only `quantization_channels` that the class allows; absent for any.
        compiled_draw: Which compiled draw of the CPU sampler gives the samples of `sample`:
            `categorical`, `logistic_mixture` or `gaussian_mixture`; absent where none does, and
            only the reference sampler generates. It is not inherited.
        num_classes: Number of codes.
        num_params: Parameters per sample that the network outputs, `P`.
        num_noise: Uniforms that one draw takes, `K`.
        cross_entropy: Computes the likelihood where it is a cross entropy of classes; a faster
            implementation may take its place. Absent for other likelihoods.
    """

    name: ClassVar[str]
    fixed_num_classes: ClassVar[int | None] = None
    compiled_draw: ClassVar[str | None] = None

    num_classes: int
    num_params: int
    num_noise: int
    cross_entropy: Callable[[Tensor, Tensor], Tensor] | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.compiled_draw = vars(cls).get("compiled_draw")

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: WaveNetConfig) -> Distribution:
        """Return the distribution of a model's output."""

    @abc.abstractmethod
    def encode(self, waveform: Array) -> Tensor:
        """Return the code of each sample, 0 to `num_classes - 1`, int64 of the same shape."""

    @abc.abstractmethod
    def decode(self, codes: Array, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the sample in [-1, 1] that each code stands for."""

    @abc.abstractmethod
    def nll(self, params: Array, waveform: Array) -> Tensor:
        """Return the negative log-likelihood of each sample's code in nats, `(B, T)`.

        Args:
            params: Parameters, `(B, P, T)`.
            waveform: Samples in [-1, 1], `(B, T)`.
        """

    @abc.abstractmethod
    def sample(self, params: Tensor, noise: Tensor, sampling: SamplingConfig) -> Tensor:
        """Return one drawn sample per item, `(B,)`: the inverse of the cumulative distribution.

        Args:
            params: Parameters, `(B, P)`.
            noise: Uniforms of [0, 1), `(B, K)`.
            sampling: Temperature and truncation.

        Raises:
            CheckpointError: A parameter is NaN or infinite.
            ConfigError: `sampling` does not apply to this distribution, see `check`.
        """

    @abc.abstractmethod
    def mode(self, params: Tensor) -> Tensor:
        """Return the most likely sample, `(B, T)`, for parameters `(B, P, T)`."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Return what a sample is drawn from, in a few words, for the model card."""

    def to(self, device: torch.device) -> None:  # noqa: B027 most have no tensors
        """Move the tensors that draws and likelihoods read to a device; a model calls it."""

    def initial_bias(self) -> Tensor | None:
        """Return parameters to start training from, `(P,)`; `None` keeps the layer's own start."""
        return None

    def check(self, sampling: SamplingConfig) -> None:  # noqa: B027 most allow every draw
        """Raise a `ConfigError` if `sampling` does not apply to this distribution."""

    def quantize(self, waveform: Tensor) -> Tensor:
        """Return the waveform rounded to the values that codes stand for."""
        return self.decode(self.encode(waveform), waveform.dtype)

    def decision_edges(self) -> Tensor:
        """Return the values between neighboring codes, `(num_classes - 1,)`, float64."""
        values = self.decode(torch.arange(self.num_classes), torch.float64)
        return (values[1:] + values[:-1]) / 2


DISTRIBUTIONS: dict[str, type[Distribution]] = {}
DistributionClass = TypeVar("DistributionClass", bound=type[Distribution])


def register(cls: DistributionClass) -> DistributionClass:
    """Make a distribution available as `output_distribution`, under its `name`; a decorator."""
    known = DISTRIBUTIONS.setdefault(cls.name, cls)
    if known is not cls:
        raise ValueError(f"the distribution {cls.name!r} is {known.__qualname__} already")
    OUTPUT_DISTRIBUTIONS[cls.name] = cls.fixed_num_classes
    return cls


def build_distribution(config: WaveNetConfig) -> Distribution:
    """Return the output distribution of a model with this config."""
    return DISTRIBUTIONS[config.output_distribution].from_config(config)


def as_codes(codes: Array) -> Tensor:
    """Return whole numbers as int64: torch indexes by bytes as by a mask."""
    tensor = as_tensor("codes", codes, None)
    if tensor.is_floating_point():
        raise ValueError(f"codes must be whole numbers, got an array of {tensor.dtype}")
    return tensor.long()


def widen(x: Tensor) -> Tensor:
    """Return `x` in float32 at least: half precision has fewer numbers than there are codes."""
    return x if x.dtype == torch.float64 else x.float()


def raise_if_nonfinite(finite: Tensor) -> None:
    """Raise a `CheckpointError` unless all of `finite` is true."""
    if not bool(finite.all()):
        raise CheckpointError(
            "the model put out NaN or infinity: its weights are damaged or training diverged"
        )
