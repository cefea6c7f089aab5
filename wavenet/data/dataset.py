"""What training and evaluation read: crops at random, and windows one after another.

Both read a little of a prepared file where it lies. Each item is a pure function of its index, so
that a loader has no state to lose; a mask says on which samples the loss counts.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from wavenet.data.clip_reader import ClipReader, stack
from wavenet.data.manifest import Clip, frames_of, speakers_of
from wavenet.utils.errors import ConfigError, DataError, printable

Voices = list["range | NDArray[np.intp]"]  # places of clips, by speaker


class RandomSegments(Dataset[dict[str, Tensor]]):
    """Batches of crops, drawn so that every sample of every clip is as likely as any other.

    An update of the weights sees `batch_size` crops, whoever draws them: they are shared out over
    the batches that it is made of, `accumulate` in each of `world_size` processes. Item `index` is
    a pure function of (seed, index, rank), without end: give the loader the numbers as its sampler,
    and `batch_size=None`. A crop lies within one clip, and what comes before its target is context,
    on which the loss does not count; where it begins with the clip, all counts.

    Args:
        excerpts: Reads the clips, and what conditions them.
        clips: From the folder's manifest.
        crop: Samples on which the loss counts.
        context: Samples before them: the receptive field.
        batch_size: Crops of an update.
        seed: Another seed draws other crops.
        rank: This process, from 0.
        world_size: Processes that draw together, each its own crops.
        accumulate: Items of each process that make an update.
        balance: Draw a speaker first, each as likely as any other, then a sample of theirs.
    """

    def __init__(
        self,
        excerpts: ClipReader,
        clips: Sequence[Clip],
        *,
        crop: int,
        context: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        balance: bool = False,
    ) -> None:
        folder = excerpts.folder
        _check(folder, clips, {"crop": (crop, 1), "context": (context, 0)})
        _check(folder, clips, {"batch_size": (batch_size, 1), "seed": (seed, 0)})
        _check(folder, clips, {"accumulate": (accumulate, 1)})
        if crop < excerpts.hop_length:
            raise ConfigError(
                f"trainer.segment_length must be {excerpts.hop_length} or more (the hop length of "
                f"the frames), got {crop}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be 0 to {world_size - 1}, got {rank}")
        self.rows = crops_of_a_batch(batch_size, world_size, accumulate)
        self.excerpts = excerpts
        self.clips = clips
        self.crop = crop
        self.context = context
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        everyone: Voices = [range(len(clips))]
        self.voices = _places_by_speaker(clips) if balance else everyone
        frames = frames_of(clips)
        self.ends = [np.cumsum(frames[voice] if balance else frames) for voice in self.voices]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return batch `index`.

        Returns:
            `waveform`, float32 `(B, context + crop)`, what conditions it (see `ClipReader.read`),
            `mask`, bool of the waveform's shape, true where the loss counts, and `count`, float32,
            on how many samples it counts in a batch of this update, as a mean over its batches.
        """
        update, part = divmod(index, self.accumulate)
        rows, length = self.rows, self.context + self.crop
        first = (part * self.world_size + self.rank) * rows
        items, counts = [], []
        mask = np.zeros((rows, length), np.bool_)
        for item in range(self.batch_size):
            clip, start = self._excerpt(update, item)
            begin, end = 0 if start == 0 else self.context, min(length, clip.frames - start)
            counts.append(end - begin)
            if 0 <= item - first < rows:
                mask[item - first, begin:end] = True
                items.append(self.excerpts.read(clip, start, length))
        count = torch.tensor(sum(counts) * rows / self.batch_size)
        return {**stack(items), "mask": torch.from_numpy(mask), "count": count}

    def _excerpt(self, update: int, item: int) -> tuple[Clip, int]:
        """Return which clip the crop is of, and where the excerpt with it begins."""
        clip, target = self._draw(update, item)
        length, hop = self.context + self.crop, self.excerpts.hop_length
        last = -(-max(0, clip.frames - length) // hop) * hop  # reaches the clip's end
        return clip, min(max(0, target - self.context) // hop * hop, last)

    def _draw(self, step: int, item: int) -> tuple[Clip, int]:
        """Return a clip and a sample of it, one of all samples of all clips."""
        seeds = np.random.SeedSequence([self.seed, step, item])
        generator = np.random.Generator(np.random.Philox(seeds))
        voice = int(generator.integers(len(self.voices))) if len(self.voices) > 1 else 0
        ends = self.ends[voice]
        sample = int(generator.integers(int(ends[-1])))
        index = int(np.searchsorted(ends, sample, side="right"))
        clip = self.clips[int(self.voices[voice][index])]
        return clip, sample - int(ends[index]) + clip.frames


class Windows(Dataset[dict[str, Tensor]]):
    """Windows that cover each sample of the clips once, in order, each with its context before it.

    For a loader with `batch_size=None`.

    Args:
        excerpts: Reads the clips, and what conditions them.
        clips: From the folder's manifest.
        window: Samples on which the loss counts.
        context: Samples before them: the receptive field.
        limit_seconds: Stop after this much audio, the first clips; `None` for all.
    """

    def __init__(
        self,
        excerpts: ClipReader,
        clips: Sequence[Clip],
        *,
        window: int,
        context: int,
        limit_seconds: float | None = None,
    ) -> None:
        _check(excerpts.folder, clips, {"window": (window, 1), "context": (context, 0)})
        if limit_seconds is not None and limit_seconds <= 0:
            raise ValueError(f"limit_seconds must be positive, got {limit_seconds}")
        self.excerpts = excerpts
        self.clips = clips
        self.window = window
        self.context = context
        self.frames = frames_of(clips)
        if limit_seconds is not None:
            limit = max(1, round(limit_seconds * clips[0].sample_rate))
            self.frames = np.diff(np.minimum(np.cumsum(self.frames), limit), prepend=0)
        self.ends = np.cumsum(-(-self.frames // window))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return window `index`.

        Returns:
            `waveform`, float32 `(1, T)` with `T` up to a hop more than `context + window`, what
            conditions it (see `ClipReader.read`), and `mask`, bool of the waveform's shape, true
            where the loss counts.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index must be 0 to {len(self) - 1}, got {index}")
        which = int(np.searchsorted(self.ends, index, side="right"))
        before = int(self.ends[which - 1]) if which else 0
        target = (index - before) * self.window
        hop = self.excerpts.hop_length
        start = max(0, target - self.context) // hop * hop
        stop = min(target + self.window, int(self.frames[which]))
        item = self.excerpts.read(self.clips[which], start, stop - start)
        mask = torch.zeros(1, stop - start, dtype=torch.bool)
        mask[:, target - start :] = True
        return {**stack([item]), "mask": mask}


def _places_by_speaker(clips: Sequence[Clip]) -> Voices:
    """Return the places of each speaker's clips, in order, the speakers in the order of names."""
    speakers = speakers_of(clips)
    order = np.argsort(speakers, kind="stable")
    return [*np.split(order, np.flatnonzero(np.diff(speakers[order])) + 1)]


def crops_of_a_batch(batch_size: int, world_size: int, accumulate: int) -> int:
    """Return how many crops of an update each of its batches has.

    Raises:
        ConfigError: They cannot all have as many.
    """
    parts = world_size * accumulate
    if batch_size % parts:
        raise ConfigError(
            f"trainer.global_batch_size={batch_size} is divided over {world_size} processes with "
            f"trainer.accumulate_grad_batches={accumulate} each: choose a multiple of {parts}"
        )
    return batch_size // parts


def _check(folder: Path, clips: Sequence[Clip], least: dict[str, tuple[int, int]]) -> None:
    if not clips:
        raise DataError(
            f"{printable(folder)} has no clips for this: prepare it with more recordings, or "
            "with a larger data.valid_fraction or data.test_fraction"
        )
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise ValueError(f"{name} must be {smallest} or more, got {value}")
