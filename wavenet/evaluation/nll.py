"""Bits per sample of a model on audio: what one sample costs to code when the past is known."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from wavenet.data.dataset import Windows
from wavenet.distributions import Distribution
from wavenet.features.frames import Features
from wavenet.model import WaveNet
from wavenet.sampling import Sampler


class Nats(NamedTuple):
    """Negative log-likelihood in nats over samples: what parts of an audio can be added up by."""

    nats: float
    samples: int

    @property
    def bits_per_sample(self) -> float:
        """The mean in bits."""
        return self.nats / max(self.samples, 1) / math.log(2)

    def plus(self, other: "Nats") -> "Nats":
        """Return those of both audios together."""
        return Nats(self.nats + other.nats, self.samples + other.samples)


class Sharers(Protocol):
    """Processes that share out the windows of one evaluation."""

    rank: int
    size: int

    def gather(self, own: Tensor) -> list[Tensor]:
        """Return what each process gives, in their order."""


class Alone:
    """This process, which does all by itself."""

    rank = 0
    size = 1

    def gather(self, own: Tensor) -> list[Tensor]:
        """Return what this process gives."""
        return [own]


@contextlib.contextmanager
def evaluating(model: WaveNet) -> Iterator[None]:
    """Put the model in evaluation mode within the block."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def bits_per_sample(
    model: WaveNet,
    windows: Windows,
    progress: Callable[[int], None] | None = None,
    told: Callable[[Tensor], Tensor] | None = None,
    sharers: Sharers | None = None,
) -> float:
    """Return the mean negative log-likelihood in bits per sample; see `nats_of`."""
    return nats_of(model, windows, progress, told, sharers).bits_per_sample


def nats_of(
    model: WaveNet,
    windows: Windows,
    progress: Callable[[int], None] | None = None,
    told: Callable[[Tensor], Tensor] | None = None,
    sharers: Sharers | None = None,
) -> Nats:
    """Return the negative log-likelihood of all samples, each with its full past.

    Args:
        model: Evaluated without dropout, whatever its mode.
        windows: The audio, each sample counted once.
        progress: Called after each window with the samples that it counted.
        told: Given the numbers of the speakers, returns those that the model is told instead.
        sharers: Processes that evaluate the same together; all return the same, to the bit that
            one would. Absent for this one alone.
    """
    device = next(model.parameters()).device

    def nll(waveform: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        there = {name: tensor.to(device) for name, tensor in conditions.items()}
        if told is not None:
            there["speaker"] = told(there["speaker"])
        return model.nll(waveform.to(device), **there)

    with evaluating(model):
        return _nats(nll, windows, progress, sharers)


def sampler_bits(sampler: Sampler, distribution: Distribution, windows: Windows) -> float:
    """Return bits per sample as `bits_per_sample`, by the numbers that a sampler computes with.

    Args:
        sampler: What draws.
        distribution: What it draws from.
        windows: The audio, each sample counted once.
    """

    def nll(waveform: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        return distribution.nll(sampler.teacher_forced(waveform, **conditions), waveform)

    return _nats(nll, windows).bits_per_sample


def _nats(
    nll: Callable[[Tensor, dict[str, Tensor]], Tensor],
    windows: Windows,
    progress: Callable[[int], None] | None = None,
    sharers: Sharers | None = None,
) -> Nats:
    nats, count = 0.0, 0
    sharers = sharers or Alone()
    features = Features(windows.excerpts.audio)
    for first in range(0, len(windows), sharers.size):
        own = torch.zeros(2, dtype=torch.float64)
        if first + sharers.rank < len(windows):
            window = windows[first + sharers.rank]
            nats_each = nll(window["waveform"], features(window)).cpu().double()
            own[0] = (nats_each * window["mask"]).sum()
            own[1] = window["mask"].sum()
        for total, counted in torch.stack(sharers.gather(own)).tolist():
            nats += total
            count += int(counted)
            if progress is not None:
                progress(int(counted))
    return Nats(nats, count)
