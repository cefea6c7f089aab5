"""Prepared clips as conditions: what a model is told of a recording that it is to speak again."""

from pathlib import Path
from typing import Any

import torch

from wavenet.config import AudioConfig
from wavenet.data.clip_reader import read_clip
from wavenet.data.manifest import Clip
from wavenet.features.frames import Features
from wavenet.features.score import read_notes
from wavenet.modules.conditioning import NULL_SPEAKER


def conditions_of_clip(
    audio: AudioConfig, folder: Path, clip: Clip, length: int | None = None
) -> dict[str, Any]:
    """Return a clip's conditions, of a batch of one, as a sampler's `start` takes them.

    Args:
        audio: What they are.
        folder: The prepared folder.
        clip: From its manifest.
        length: Samples from the clip's start that they are to cover; absent for all.
    """
    conditions: dict[str, Any] = {}
    if audio.speaker_names:
        names = {name: number for number, name in enumerate(audio.speaker_names)}
        conditions["speaker"] = torch.tensor([names.get(clip.speaker, NULL_SPEAKER)])
    if audio.features:
        notes = read_notes(folder / clip.notes) if clip.notes else None
        frames = Features(audio).of_signal(read_clip(folder, clip), notes)
        if length is not None:
            frames = frames[..., : -(-length // (audio.hop_length or 1))]
        conditions["local"] = frames
    return conditions
