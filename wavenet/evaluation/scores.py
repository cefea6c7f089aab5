"""Bits per sample of a model beside the yardsticks, all on the same recordings."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.clip_reader import ClipReader, read_clip
from wavenet.data.dataset import Windows
from wavenet.data.manifest import Clip, Manifest, frames_of
from wavenet.evaluation.baselines import yardsticks
from wavenet.evaluation.nll import Nats, nats_of
from wavenet.features.filters import check_peak
from wavenet.model import WaveNet
from wavenet.modules.conditioning import NULL_SPEAKER

WINDOW = 16384  # samples counted in one pass of the model


def model_nats(
    model: WaveNet,
    excerpts: ClipReader,
    clips: Sequence[Clip],
    progress: Callable[[int], None] | None = None,
) -> dict[str, Nats]:
    """Return what the clips cost by name: `model` first.

    A model of several speakers is also measured when it is told another speaker than the one who
    is heard (the next in order), and when it is told none.

    Args:
        model: Evaluated without dropout, whatever its mode.
        excerpts: Reads the clips, and what conditions them.
        clips: The recordings, whole; there may be none.
        progress: Called after each window with the samples that it counted.
    """
    for clip in clips:
        check_peak(_signal(excerpts, clip), clip.source)
    count = model.config.num_speakers
    told: dict[str, Callable[[Tensor], Tensor] | None] = {"model": None}
    if count > 1:
        told["told another speaker"] = lambda number: (number + 1) % count
        told["told no speaker"] = lambda number: number * 0 + NULL_SPEAKER
    if not clips:
        return dict.fromkeys(told, Nats(0.0, 0))
    windows = Windows(excerpts, clips, window=WINDOW, context=model.config.receptive_field)
    return {name: nats_of(model, windows, progress, who) for name, who in told.items()}


def scores(
    nats: Mapping[str, Nats], model: WaveNet, excerpts: ClipReader, clips: Sequence[Clip]
) -> dict[str, float]:
    """Return bits per sample by name: the model's first, then each yardstick's.

    Args:
        nats: What `model_nats` found on these clips.
        model: Whose codes the yardsticks count.
        excerpts: Reads the clips.
        clips: All of them: the yardsticks are fitted on the audio that they measure.
    """
    audio = [_signal(excerpts, clip).numpy() for clip in clips]
    bits = {name: value.bits_per_sample for name, value in nats.items()}
    return {**bits, **yardsticks(audio, model.distribution)}


def _signal(excerpts: ClipReader, clip: Clip) -> Tensor:
    return excerpts.shaping.apply(torch.from_numpy(read_clip(excerpts.folder, clip)))


def samples_measured(model: WaveNetConfig, clips: Sequence[Clip]) -> int:
    """Return how many samples `model_nats` tells its progress of."""
    return int(frames_of(clips).sum()) * (3 if model.num_speakers > 1 else 1)


def excerpts_of(model: WaveNetConfig, audio: AudioConfig, folder: Path) -> ClipReader:
    """Return what reads a prepared folder as a model wants it."""
    lookahead = model.local.lookahead if model.local is not None else 0
    return ClipReader(folder, audio, lookahead)


def score_table(bits: dict[str, float]) -> str:
    """Return bits per sample by name as lines to print, and what the model gains over each."""
    lines = [f"{'':30}{'bits per sample':>16}{'model gains':>13}"]
    for name, value in bits.items():
        gain = "" if name == "model" else f"{value - bits['model']:13.3f}"
        lines.append(f"{name.replace('_', ' '):30}{value:16.3f}{gain}")
    return "\n".join(lines)


def held_out(clips: Manifest) -> Manifest:
    """Return the clips of the test split, or of validation where none tests."""
    return clips.of_split("test") or clips.of_split("valid")


def first_seconds(clips: Sequence[Clip], seconds: float | None) -> Sequence[Clip]:
    """Return the first clips, until that much audio is there; all where `seconds` is absent."""
    if seconds is None or not clips:
        return clips
    frames = frames_of(clips)
    before = np.cumsum(frames) - frames
    return clips[: int(np.searchsorted(before, seconds * clips[0].sample_rate))]
