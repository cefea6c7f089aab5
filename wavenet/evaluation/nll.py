"""Negative log-likelihood of a model on held-out audio, reported as bits per sample."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.dataset import ClipReader, SequentialSegments, read_clip
from wavenet.data.manifest import Clip, frames_of
from wavenet.distributions import Distribution
from wavenet.features.filters import check_peak
from wavenet.features.frames import Features
from wavenet.model import WaveNet, meta_model
from wavenet.sampling import Sampler
from wavenet.utils.data_identity import NULL_SPEAKER
from wavenet.utils.precision import float32_products
from wavenet.utils.progress import progress

MODEL = "model"


@dataclass(frozen=True)
class TotalNll:
    """Negative log-likelihood of some audio, in nats; totals of different audio add up."""

    nats: float = 0.0
    num_samples: int = 0

    @property
    def bits_per_sample(self) -> float:
        """The mean in bits."""
        return self.nats / max(self.num_samples, 1) / math.log(2)

    def __add__(self, other: "TotalNll") -> "TotalNll":
        return TotalNll(self.nats + other.nats, self.num_samples + other.num_samples)


class EvaluationGroup(Protocol):
    """Processes that share the windows of one evaluation."""

    rank: int
    size: int

    def gather(self, own: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, by rank."""


@contextlib.contextmanager
def evaluating(model: WaveNet) -> Iterator[None]:
    """Put the model in evaluation mode within the block, without gradients, and in float32."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.inference_mode(), float32_products(device):
            yield
    finally:
        model.train(was_training)


def total_nll(
    model: WaveNet,
    windows: SequentialSegments,
    advance: Callable[[int], None] | None = None,
    map_speakers: Callable[[Tensor], Tensor] | None = None,
    group: EvaluationGroup | None = None,
) -> TotalNll:
    """Return the negative log-likelihood of all samples, each given its full past.

    Args:
        model: Evaluated without dropout, whatever its mode.
        windows: The audio; each sample counts once.
        advance: Called after each window with the number of samples that it counted.
        map_speakers: Maps the speaker ids of the audio to those that the model gets.
        group: Processes that share the windows; all return the same value, equal to the bit to that
            of a single process. Absent for this process alone.
    """
    device = next(model.parameters()).device

    def nll(waveform: Tensor, conditioning: dict[str, Tensor]) -> Tensor:
        if map_speakers is not None:
            conditioning["speaker"] = map_speakers(conditioning["speaker"])
        return model.nll(waveform, **conditioning)

    with evaluating(model):
        return _total(nll, windows, advance, group, device)


def sampler_bits_per_sample(
    sampler: Sampler, distribution: Distribution, windows: SequentialSegments
) -> float:
    """Return bits per sample from the params that a sampler computes, with its own weight dtype."""

    def nll(waveform: Tensor, conditioning: dict[str, Tensor]) -> Tensor:
        params = sampler.teacher_forced(waveform, **conditioning)
        return distribution.nll(params, waveform.to(params.device))

    return _total(nll, windows).bits_per_sample


def model_nll(model: WaveNet, reader: ClipReader, clips: Sequence[Clip]) -> dict[str, TotalNll]:
    """Return the negative log-likelihood of clips by name, `model` first.

    A multi-speaker model is also evaluated with the wrong speaker (the next id) and with the null
    speaker: what it loses there is what it has learned about speakers.

    Args:
        model: Evaluated without dropout, whatever its mode.
        reader: Reads the clips and their conditioning.
        clips: Complete recordings; may be empty.
    """
    for clip in clips:
        check_peak(model_input(reader, clip), clip.source)
    num_speakers = model.config.num_speakers
    speaker_maps: dict[str, Callable[[Tensor], Tensor] | None] = {MODEL: None}
    if num_speakers > 1:
        speaker_maps["wrong speaker"] = lambda ids: (ids + 1) % num_speakers
        speaker_maps["null speaker"] = lambda ids: torch.full_like(ids, NULL_SPEAKER)
    if not clips:
        return dict.fromkeys(speaker_maps, TotalNll())
    windows = SequentialSegments(reader, clips, context=model.config.receptive_field)
    total = int(frames_of(clips).sum()) * len(speaker_maps)
    with progress(total, unit="sample", description="evaluating") as advance:
        return {name: total_nll(model, windows, advance, ids) for name, ids in speaker_maps.items()}


def make_clip_reader(model: WaveNetConfig, audio: AudioConfig, folder: Path) -> ClipReader:
    """Return a reader of a prepared folder that gives a model its input and conditioning."""
    return ClipReader(folder, audio, meta_model(model).frame_lookahead)


def model_input(reader: ClipReader, clip: Clip) -> Tensor:
    """Return a clip, `(T,)`, as the model sees it: after the filters of its audio config."""
    return reader.signal_filter.apply(torch.from_numpy(read_clip(reader.folder, clip)))


def _total(
    nll: Callable[[Tensor, dict[str, Tensor]], Tensor],
    windows: SequentialSegments,
    advance: Callable[[int], None] | None = None,
    group: EvaluationGroup | None = None,
    device: torch.device | str = "cpu",
) -> TotalNll:
    """Return the total of `nll` over windows; features are computed on `device`."""
    nats, num_samples = 0.0, 0
    rank, size = (group.rank, group.size) if group is not None else (0, 1)
    features = Features(windows.reader.audio).to(device)
    for first in range(0, len(windows), size):
        own = torch.zeros(2, dtype=torch.float64)
        if first + rank < len(windows):
            window = windows[first + rank]
            inputs = {name: tensor.to(device) for name, tensor in window.items()}
            nats_each = nll(inputs["waveform"], features(inputs)).cpu().double()
            own[0] = (nats_each * window["mask"]).sum()
            own[1] = window["mask"].sum()
        gathered = group.gather(own) if group is not None else [own]
        for window_nats, window_samples in torch.stack(gathered).tolist():
            nats += window_nats
            num_samples += int(window_samples)
            if advance is not None:
                advance(int(window_samples))
    return TotalNll(nats, num_samples)
