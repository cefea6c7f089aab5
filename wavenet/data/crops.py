"""What training and evaluation read: crops at random, and windows one after another.

Both read a little of a prepared file where it lies. Each item is a pure function of its index, so
that a loader has no state to lose; a mask says on which samples the loss counts.
"""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from wavenet.data.audio import read_samples
from wavenet.data.manifest import Clip
from wavenet.errors import DataError, printable


class RandomCrops(Dataset[dict[str, Tensor]]):
    """Batches of crops, drawn so that every sample of every clip is as likely as any other.

    Item `step` is a pure function of (seed, step, rank), without end: give the loader the steps as
    its sampler, and `batch_size=None`. A crop lies within one clip, and what comes before its
    target is context, on which the loss does not count; where it begins with the clip, all counts.

    Args:
        folder: The prepared folder.
        clips: From its manifest.
        crop: Samples on which the loss counts.
        context: Samples before them: the receptive field.
        batch_size: Crops in an item.
        seed: Another seed draws other crops.
        rank: This process, from 0.
        world_size: Processes that draw together, each its own crops.
    """

    def __init__(
        self,
        folder: Path,
        clips: Sequence[Clip],
        *,
        crop: int,
        context: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(folder, clips, {"crop": (crop, 1), "context": (context, 0)})
        _check(folder, clips, {"batch_size": (batch_size, 1), "seed": (seed, 0)})
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be 0 to {world_size - 1}, got {rank}")
        self.folder = folder
        self.clips = clips
        self.crop = crop
        self.context = context
        self.batch_size = batch_size
        self.seed = seed
        self.first_item = rank * batch_size
        self.ends = list(itertools.accumulate(clip.frames for clip in clips))

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Return batch `step`.

        Returns:
            `waveform`, float32 `(batch_size, context + crop)`, and `mask`, bool of the same shape,
            true where the loss counts.
        """
        length = self.context + self.crop
        waveform = np.zeros((self.batch_size, length), np.float32)
        mask = np.zeros((self.batch_size, length), np.bool_)
        for row in range(self.batch_size):
            clip, target = self._draw(step, self.first_item + row)
            start = min(max(0, target - self.context), max(0, clip.frames - length))
            samples = _read(self.folder, clip, start, min(length, clip.frames - start))
            waveform[row, : len(samples)] = samples
            mask[row, 0 if start == 0 else self.context : len(samples)] = True
        return {"waveform": torch.from_numpy(waveform), "mask": torch.from_numpy(mask)}

    def _draw(self, step: int, item: int) -> tuple[Clip, int]:
        """Return a clip and a sample of it, one of all samples of all clips."""
        seeds = np.random.SeedSequence([self.seed, step, item])
        sample = int(np.random.Generator(np.random.Philox(seeds)).integers(self.ends[-1]))
        index = bisect.bisect_right(self.ends, sample)
        clip = self.clips[index]
        return clip, sample - self.ends[index] + clip.frames


class Windows(Dataset[dict[str, Tensor]]):
    """Windows that cover each sample of the clips once, in order, each with its context before it.

    For a loader with `batch_size=None`.

    Args:
        folder: The prepared folder.
        clips: From its manifest.
        window: Samples on which the loss counts.
        context: Samples before them: the receptive field.
        limit_seconds: Stop after this much audio, the first clips; `None` for all.
    """

    def __init__(
        self,
        folder: Path,
        clips: Sequence[Clip],
        *,
        window: int,
        context: int,
        limit_seconds: float | None = None,
    ) -> None:
        _check(folder, clips, {"window": (window, 1), "context": (context, 0)})
        if limit_seconds is not None and limit_seconds <= 0:
            raise ValueError(f"limit_seconds must be positive, got {limit_seconds}")
        self.folder = folder
        self.clips = clips
        self.window = window
        self.context = context
        self.frames = [clip.frames for clip in clips]
        if limit_seconds is not None:
            left = max(1, round(limit_seconds * clips[0].sample_rate))
            for index, frames in enumerate(self.frames):
                self.frames[index] = min(frames, left)
                left -= self.frames[index]
        self.ends = list(itertools.accumulate(-(-frames // window) for frames in self.frames))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return window `index`.

        Returns:
            `waveform`, float32 `(1, T)` with `T` up to `context + window`, and `mask`, bool of the
            same shape, true where the loss counts.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index must be 0 to {len(self) - 1}, got {index}")
        which = bisect.bisect_right(self.ends, index)
        before = self.ends[which - 1] if which else 0
        target = (index - before) * self.window
        start = max(0, target - self.context)
        stop = min(target + self.window, self.frames[which])
        waveform = _read(self.folder, self.clips[which], start, stop - start)[None]
        mask = np.zeros(waveform.shape, np.bool_)
        mask[:, target - start :] = True
        return {"waveform": torch.from_numpy(waveform), "mask": torch.from_numpy(mask)}


def _read(folder: Path, clip: Clip, start: int, frames: int) -> NDArray[np.float32]:
    """Return `(frames,)` samples of a clip."""
    try:
        return read_samples(folder / clip.path, start, frames)[:, 0]
    except DataError as error:
        raise DataError(f"{error}; the manifest says otherwise: run wavenet-prepare anew") from None


def _check(folder: Path, clips: Sequence[Clip], least: dict[str, tuple[int, int]]) -> None:
    if not clips:
        raise DataError(
            f"{printable(folder)} has no clips for this: prepare it with more recordings, or "
            "with a larger data.valid_fraction or data.test_fraction"
        )
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise ValueError(f"{name} must be {smallest} or more, got {value}")
