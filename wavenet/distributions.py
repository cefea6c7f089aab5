"""What a sample is drawn from, given the parameters that the network puts out for it.

A distribution has `num_params` numbers a sample and takes `num_noise` uniforms to draw one. It owns
the quantisation: the network and the data know waveforms in [-1, 1] only.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.companding import mu_law_decode, mu_law_encode
from wavenet.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Draw:
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


class Categorical:
    """Softmax over mu-law classes (WaveNet, section 2.2).

    Args:
        levels: Number of classes.
    """

    num_noise = 1

    def __init__(self, levels: int = 256) -> None:
        self.levels = levels
        self.num_params = levels
        self._values = mu_law_decode(torch.arange(levels), levels, torch.float64)

    def encode(self, waveform: Tensor) -> Tensor:
        """Return the class of each sample, int64 of the same shape."""
        return mu_law_encode(waveform, self.levels)

    def decode(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the sample in [-1, 1] of each class."""
        # looked up: a formula's last bit depends on how many are computed at once
        return self._values.to(codes.device, dtype)[codes]

    def quantise(self, waveform: Tensor) -> Tensor:
        """Return the waveform as this distribution would put it out."""
        return self.decode(self.encode(waveform), waveform.dtype)

    def nll(self, params: Tensor, waveform: Tensor) -> Tensor:
        """Return the negative log-likelihood of each sample in nats, `(B, T)` float32 or wider.

        Args:
            params: Logits, `(B, levels, T)`.
            waveform: Samples in [-1, 1], `(B, T)`.
        """
        logits = params if params.dtype == torch.float64 else params.float()
        codes = self.encode(waveform)
        rows = logits.transpose(1, 2).flatten(0, 1)  # a view of what the network puts out
        return F.cross_entropy(rows, codes.flatten(), reduction="none").view_as(waveform)

    def sample(self, params: Tensor, noise: Tensor, draw: Draw) -> Tensor:
        """Return one drawn sample an item, `(B,)`: the inverse of the cumulative distribution.

        Args:
            params: Logits, `(B, levels)`.
            noise: Uniforms of [0, 1), `(B, 1)`.
            draw: Temperature and truncation.

        Raises:
            CheckpointError: A logit is NaN or infinite.
        """
        peak, mode = params.max(dim=-1, keepdim=True)
        if not bool(torch.isfinite(peak).all()):
            raise CheckpointError(
                "the model put out NaN or infinity: its weights are damaged or training diverged"
            )
        if draw.temperature == 0:
            return self.decode(mode.squeeze(-1), params.dtype)
        # float64: the running sum of many small numbers decides the class
        weights = ((params - peak).double() / draw.temperature).exp()
        cumulative = truncate(weights, params, draw).cumsum(dim=-1)
        threshold = noise.double() * cumulative[:, -1:]
        codes = (cumulative <= threshold).sum(dim=-1).clamp(max=self.levels - 1)
        return self.decode(codes, params.dtype)

    def mode(self, params: Tensor) -> Tensor:
        """Return the most likely sample, `(B, T)`, for logits `(B, levels, T)`."""
        return self.decode(params.argmax(dim=1), params.dtype)


def truncate(weights: Tensor, params: Tensor, draw: Draw) -> Tensor:
    """Return `weights`, `(B, levels)`, with 0 for the classes that top-k and top-p leave out.

    Likeliest are those of the largest `params`: a high temperature may make all weights one.
    """
    if draw.top_k is None and draw.top_p is None:
        return weights
    classes = params.argsort(dim=-1, descending=True, stable=True)
    ordered = weights.gather(-1, classes)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if draw.top_k is not None:
        keep[:, draw.top_k :] = False
    if draw.top_p is not None:
        before = ordered.cumsum(dim=-1) - ordered
        keep &= before < draw.top_p * ordered.sum(dim=-1, keepdim=True)
    return torch.zeros_like(weights).scatter(-1, classes, ordered * keep)
