"""What all outputs have in common, and how a draw is asked for.

A distribution has `num_params` numbers a sample and takes `num_noise` uniforms to draw one. It owns
the quantisation: the network and the data know waveforms in [-1, 1] only.
"""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.utils.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a sample is drawn.

    Attributes:
        temperature: Below 1 the likely becomes likelier; 0 takes the most likely, lowest class
            first on ties.
        top_k: Draw from this many most likely classes only.
        top_p: Draw from the fewest most likely classes that together have this probability.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be 1 or more, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")


class Distribution(abc.ABC):
    """Distribution of one sample over its codes.

    Attributes:
        num_classes: Number of codes.
        num_params: Numbers that the network puts out for a sample, `P`.
        num_noise: Uniforms that one draw takes, `K`.
    """

    num_classes: int
    num_params: int
    num_noise: int

    @abc.abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """Return the code of each sample, 0 to `levels - 1`, int64 of the same shape."""

    @abc.abstractmethod
    def decode(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the sample in [-1, 1] that each code stands for."""

    @abc.abstractmethod
    def nll(self, params: Tensor, waveform: Tensor) -> Tensor:
        """Return the negative log-likelihood of each sample's code in nats, `(B, T)`.

        Args:
            params: Parameters, `(B, P, T)`.
            waveform: Samples in [-1, 1], `(B, T)`.
        """

    @abc.abstractmethod
    def sample(self, params: Tensor, noise: Tensor, draw: SamplingConfig) -> Tensor:
        """Return one drawn sample an item, `(B,)`: the inverse of the cumulative distribution.

        Args:
            params: Parameters, `(B, P)`.
            noise: Uniforms of [0, 1), `(B, K)`.
            draw: Temperature and truncation.

        Raises:
            CheckpointError: A parameter is NaN or infinite.
            ConfigError: There is no such draw, see `check`.
        """

    @abc.abstractmethod
    def mode(self, params: Tensor) -> Tensor:
        """Return the most likely sample, `(B, T)`, for parameters `(B, P, T)`."""

    @abc.abstractmethod
    def initial_bias(self) -> Tensor:
        """Return parameters to start training from, `(P,)`."""

    def check(self, draw: SamplingConfig) -> None:  # noqa: B027 most take any
        """Raise a `ConfigError` unless `draw` means something here."""

    def quantize(self, waveform: Tensor) -> Tensor:
        """Return the waveform as this distribution would put it out."""
        return self.decode(self.encode(waveform), waveform.dtype)


def raise_if_nonfinite(good: Tensor) -> None:
    """Raise unless all of `good` is true."""
    if not bool(good.all()):
        raise CheckpointError(
            "the model put out NaN or infinity: its weights are damaged or training diverged"
        )
