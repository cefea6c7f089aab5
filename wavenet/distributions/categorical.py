"""Softmax over the classes of a companded sample.

It is the output distribution of the WaveNet paper, section 2.2, with mu-law classes.
"""

from __future__ import annotations  # help() shows Array by its name

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.config import WaveNetConfig
from wavenet.distributions.companding import companding_tables, mu_law_encode
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

CrossEntropy = Callable[[Tensor, Tensor], Tensor]


@register
class Categorical(Distribution):
    """Softmax over classes; the parameters are logits.

    Args:
        num_classes: Number of classes.
        companding: Name of the convention that makes classes of samples, see `companding`.
    """

    name = "categorical"
    compiled_draw = "categorical"
    num_noise = 1

    def __init__(self, num_classes: int = 256, companding: str = "mu-law") -> None:
        self.num_classes = num_classes
        self.companding = companding
        self.num_params = num_classes
        self.cross_entropy: CrossEntropy = cross_entropy
        self._edges, self._values = companding_tables(companding, num_classes)

    @classmethod
    def from_config(cls, config: WaveNetConfig) -> Categorical:
        return cls(config.quantization_channels, config.companding)

    def encode(self, waveform: Array) -> Tensor:
        waveform = as_tensor("waveform", waveform, self)
        if self.companding == "mu-law":
            return mu_law_encode(waveform, self.num_classes)
        # rounded as the sample is, so that a value that is an edge stays one
        edges = self._edges.to(waveform.device, waveform.dtype)
        # a copy, for `contiguous` is none under vmap, and torch warns of what is not contiguous
        samples = widen(waveform).clone(memory_format=torch.contiguous_format)
        return torch.bucketize(samples, widen(edges), right=True)

    def decode(self, codes: Array, dtype: torch.dtype = torch.float32) -> Tensor:
        # a look-up: the last bit of a formula depends on how many values are computed at once
        codes = as_codes(codes)
        return self._values.to(codes.device, dtype)[codes]

    def to(self, device: torch.device) -> None:
        if device.type in ("cpu", "cuda"):  # meta would lose the numbers, mps has no float64
            self._edges, self._values = self._edges.to(device), self._values.to(device)

    def nll(self, params: Array, waveform: Array) -> Tensor:
        params = as_tensor("params", params, self)
        waveform = as_tensor("waveform", waveform, params)
        codes = self.encode(waveform)
        rows = params.transpose(1, 2).flatten(0, 1)  # a view of the network's output
        return self.cross_entropy(rows, codes.flatten()).view_as(waveform)

    def sample(self, params: Tensor, noise: Tensor, sampling: SamplingConfig) -> Tensor:
        raise_if_nonfinite(self.drawable(params))
        return self.decode(self.draw(params, noise, sampling), params.dtype)

    def drawable(self, params: Tensor) -> Tensor:
        """Return whether each item has a finite largest logit, `(B,)`, for params `(B, P)`."""
        return params.amax(dim=-1).isfinite()

    def draw(self, params: Tensor, noise: Tensor, sampling: SamplingConfig) -> Tensor:
        """Return the code of `sample`, `(B,)`, unchecked: tensor operations of fixed shapes."""
        peak, mode = params.max(dim=-1, keepdim=True)
        if sampling.temperature == 0:
            return mode.squeeze(-1)
        # float64: the running sum of many small numbers decides the class
        weights = ((params - peak).double() / sampling.temperature).exp()
        floor = sampling.probability_floor * weights.sum(dim=-1, keepdim=True)
        return pick(truncate((weights - floor).clamp(min=0), params, sampling), noise)

    def mode(self, params: Tensor) -> Tensor:
        return self.decode(params.argmax(dim=1), params.dtype)

    def check(self, sampling: SamplingConfig) -> None:
        limit = 1 / self.num_classes  # the likeliest class has at least this probability
        if sampling.probability_floor >= limit:
            raise ConfigError(
                f"probability_floor must be below {limit:g}, one over the number of classes, got "
                f"{sampling.probability_floor:g}"
            )

    def describe(self) -> str:
        return f"{self.num_classes} {self.companding} classes"

    def decision_edges(self) -> Tensor:
        return self._edges.cpu()


def cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Return the negative log-likelihood of classes in nats, `(N,)`, float32 or wider.

    Args:
        logits: Of the classes, `(N, classes)`.
        codes: Class of each sample, `(N,)`.
    """
    return F.cross_entropy(widen(logits), codes, reduction="none")


def pick(weights: Tensor, noise: Tensor) -> Tensor:
    """Return the class whose interval contains a uniform, `(B,)`; `weights` are the lengths.

    Args:
        weights: Of the classes, `(B, classes)`, float64; their sum need not be 1.
        noise: Uniforms of [0, 1), `(B, 1)`.
    """
    cumulative = weights.cumsum(dim=-1)
    threshold = noise.double() * cumulative[:, -1:]
    return (cumulative <= threshold).sum(dim=-1).clamp(max=weights.shape[1] - 1)


def truncate(weights: Tensor, params: Tensor, sampling: SamplingConfig) -> Tensor:
    """Return `weights`, `(B, classes)`, with 0 for the classes that top-k and top-p exclude.

    Classes are ranked by `params`, since a high temperature can make all weights equal.
    """
    if sampling.top_k is None and sampling.top_p is None:
        return weights
    classes = params.argsort(dim=-1, descending=True, stable=True)
    ordered = weights.gather(-1, classes)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if sampling.top_k is not None:
        keep[:, sampling.top_k :].zero_()
    if sampling.top_p is not None:
        before = ordered.cumsum(dim=-1) - ordered
        keep &= before < sampling.top_p * ordered.sum(dim=-1, keepdim=True)
    return torch.zeros_like(weights).scatter(-1, classes, ordered * keep)
