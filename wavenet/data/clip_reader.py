"""Reads segments of clips with their conditioning.

What is cheap to compute is read in the loader's workers: the speaker id, the piano roll, F0. A mel
spectrogram is computed from the waveform on the training device; for it the item holds the samples
around the segment too, so that its frames equal those of the complete clip.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.config import AudioConfig, F0Config
from wavenet.data.audio import read_samples
from wavenet.data.manifest import Clip
from wavenet.features.f0 import f0_features
from wavenet.features.filters import build_filter
from wavenet.features.mel import LogMel
from wavenet.features.piano_roll import piano_roll
from wavenet.features.score import read_notes
from wavenet.utils.data_identity import NULL_SPEAKER
from wavenet.utils.errors import DataError

Samples = NDArray[np.float32]


class ClipReader:
    """Reads segments of prepared clips.

    Args:
        folder: The prepared folder.
        audio: The conditioning features.
        lookahead: Frames after the last one of a segment that the model sees.

    Attributes:
        hop_length: Segments start at multiples of it; 1 if there are no frames.
    """

    def __init__(self, folder: Path, audio: AudioConfig | None = None, lookahead: int = 0) -> None:
        self.folder = folder
        self.audio = audio
        self.lookahead = lookahead
        self.hop_length = (audio.hop_length if audio is not None else None) or 1
        self.signal_filter = build_filter(audio)
        self._f0_of_clip: dict[str, Samples] = {}
        self.margin = 0
        if audio is not None and audio.mel is not None:
            self.margin = LogMel(audio.mel).margin
        self.numbers = {name: i for i, name in enumerate(audio.speaker_names)} if audio else {}

    def read(self, clip: Clip, start: int, length: int) -> dict[str, Tensor]:
        """Return `length` samples of a clip from `start` on, a multiple of `hop_length`.

        Outside the clip there is silence.

        Returns:
            `waveform`, `(length,)`; depending on the audio config `around`, samples from `margin`
            before to `margin` after the frames, `frames` `(C, F)` of F0 and the piano roll, and
            `speaker`, its id.
        """
        memory = self.signal_filter.memory
        wide = torch.from_numpy(self._samples(clip, start - memory, length + memory))
        item = {"waveform": self.signal_filter.valid(wide)}
        audio = self.audio
        if audio is None:
            return item
        if audio.speaker_names:
            item["speaker"] = torch.tensor(self.numbers.get(clip.speaker, NULL_SPEAKER))
        if not audio.features:
            return item
        count = -(-length // self.hop_length) + self.lookahead
        covered = count * self.hop_length
        if audio.mel is not None:
            around = self._samples(clip, start - self.margin, covered + 2 * self.margin)
            item["around"] = torch.from_numpy(around)
        rows = []
        if audio.f0 is not None:
            rows.append(self._f0(clip, audio.f0, start // self.hop_length, count))
        if audio.score is not None:
            if not clip.notes:
                raise DataError(f"{clip.path} has no notes, and the model is conditioned on them")
            notes = read_notes(self.folder / clip.notes)
            rows.append(piano_roll(notes, start // self.hop_length, count, audio.score))
        if rows:
            item["frames"] = torch.from_numpy(np.concatenate(rows))
        return item

    def _f0(self, clip: Clip, config: F0Config, first: int, count: int) -> Samples:
        """Return F0 frames of a clip; they depend on all of it and are computed once."""
        if clip.path not in self._f0_of_clip:
            self._f0_of_clip[clip.path] = f0_features(self._samples(clip, 0, clip.frames), config)
        found = self._f0_of_clip[clip.path][:, first : first + count]
        return np.pad(found, ((0, 0), (0, count - found.shape[1])), mode="edge")

    def _samples(self, clip: Clip, start: int, length: int) -> Samples:
        """Return samples `start` to `start + length`, `(length,)`, silence outside the clip."""
        samples = np.zeros(length, np.float32)
        first, stop = max(0, start), min(start + length, clip.frames)
        if stop > first:
            samples[first - start : stop - start] = _read(self.folder, clip, first, stop - first)
        return samples


def read_clip(folder: Path, clip: Clip) -> Samples:
    """Return all samples of a prepared clip, `(T,)`."""
    return np.ascontiguousarray(read_samples(folder / clip.path)[:, 0])


def stack(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return segments of one length as a batch."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def _read(folder: Path, clip: Clip, start: int, frames: int) -> Samples:
    """Return `(frames,)` samples of a clip."""
    try:
        return read_samples(folder / clip.path, start, frames)[:, 0]
    except DataError as error:
        raise DataError(f"{error}; but the manifest lists it: run wavenet-prepare again") from None
