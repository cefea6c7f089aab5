"""Bits per sample of a model beside the yardsticks, all on the same recordings."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.clips import read_clip
from wavenet.data.crops import Windows
from wavenet.data.excerpts import Excerpts
from wavenet.data.manifest import Clip, Manifest, frames_of
from wavenet.data.shaping import check_peak
from wavenet.evaluation.likelihood import bits_per_sample
from wavenet.evaluation.yardsticks import yardsticks
from wavenet.model import WaveNet
from wavenet.modules.conditioning import UNKNOWN

WINDOW = 16384  # samples counted in one pass of the model


def scores(
    model: WaveNet,
    excerpts: Excerpts,
    clips: Sequence[Clip],
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Return bits per sample by name: `model` first, then each yardstick.

    A model of several speakers is also measured when it is told another speaker than the one who
    is heard (the next in order), and when it is told none.

    Args:
        model: Evaluated without dropout, whatever its mode.
        excerpts: Reads the clips, and what conditions them.
        clips: The recordings, whole.
        progress: Called after each window with the samples that it counted.
    """
    context = model.config.receptive_field
    windows = Windows(excerpts, clips, window=WINDOW, context=context)
    audio = []
    for clip in clips:
        signal = excerpts.shaping.apply(torch.from_numpy(read_clip(excerpts.folder, clip)))
        check_peak(signal, clip.source)
        audio.append(signal.numpy())
    bits = {"model": bits_per_sample(model, windows, progress)}
    count = model.config.speakers
    if count > 1:
        other = bits_per_sample(model, windows, progress, lambda number: (number + 1) % count)
        none = bits_per_sample(model, windows, progress, lambda number: number * 0 + UNKNOWN)
        bits |= {"told another speaker": other, "told no speaker": none}
    return {**bits, **yardsticks(audio, model.distribution)}


def samples_measured(model: WaveNetConfig, clips: Sequence[Clip]) -> int:
    """Return how many samples `scores` tells its progress of."""
    return int(frames_of(clips).sum()) * (3 if model.speakers > 1 else 1)


def excerpts_of(model: WaveNetConfig, audio: AudioConfig, folder: Path) -> Excerpts:
    """Return what reads a prepared folder as a model wants it."""
    lookahead = model.local.lookahead if model.local is not None else 0
    return Excerpts(folder, audio, lookahead)


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
