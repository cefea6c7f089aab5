"""Datasets of segments of clips: at random for training, one after another for evaluation.

Both read only the segment from a prepared file. Each item is a pure function of its index, so a
loader has no state to save; a mask marks the samples on which the loss is computed.
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

ClipIndices = range | NDArray[np.intp]


class RandomSegments(Dataset[dict[str, Tensor]]):
    """Batches of random segments; every sample of every clip is equally likely.

    An update of the weights sees `batch_size` segments. They are divided over the batches of the
    update: `accumulate_grad_batches` in each of `world_size` processes. Item `index` is a pure
    function of (seed, index, rank), without end: give the loader the numbers as its sampler, and
    `batch_size=None`. A segment lies within one clip and has `context` samples before it, which the
    mask leaves out; at the start of a clip, where there is no context, the mask covers all.

    Args:
        reader: Reads the clips and their conditioning.
        clips: From the folder's manifest.
        segment_length: Samples on which the loss is computed.
        context: Samples before them: the receptive field.
        batch_size: Segments of an update, of all processes.
        seed: Another seed draws other segments.
        rank: This process, from 0.
        world_size: Number of processes.
        accumulate_grad_batches: Items of each process in an update.
        balance_speakers: Draw a speaker first, all equally likely, then a sample of theirs.
    """

    def __init__(
        self,
        reader: ClipReader,
        clips: Sequence[Clip],
        *,
        segment_length: int,
        context: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate_grad_batches: int = 1,
        balance_speakers: bool = False,
    ) -> None:
        _check(reader.folder, clips, segment_length=(segment_length, 1), context=(context, 0))
        _check(reader.folder, clips, batch_size=(batch_size, 1), seed=(seed, 0))
        _check(reader.folder, clips, accumulate_grad_batches=(accumulate_grad_batches, 1))
        if segment_length < reader.hop_length:
            raise ConfigError(
                f"trainer.segment_length must be {reader.hop_length} or more (the hop length of "
                f"the frames), got {segment_length}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be 0 to {world_size - 1}, got {rank}")
        self.segments_per_batch = divide_batch(batch_size, world_size, accumulate_grad_batches)
        self.reader = reader
        self.clips = clips
        self.segment_length = segment_length
        self.context = context
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate_grad_batches = accumulate_grad_batches
        everyone: list[ClipIndices] = [range(len(clips))]
        self.groups = _clips_by_speaker(clips) if balance_speakers else everyone
        frames = frames_of(clips)
        self.ends = [
            np.cumsum(frames[group] if balance_speakers else frames) for group in self.groups
        ]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return batch `index`.

        Returns:
            `waveform`, float32 `(B, context + segment_length)`, its conditioning (see
            `ClipReader.read`), `mask`, bool of the waveform's shape, true where the loss is
            computed, and `count`, float32, the mean number of such samples in the batches of this
            update.
        """
        update, part = divmod(index, self.accumulate_grad_batches)
        rows, length = self.segments_per_batch, self.context + self.segment_length
        first = (part * self.world_size + self.rank) * rows
        items, counts = [], []
        mask = np.zeros((rows, length), np.bool_)
        for item in range(self.batch_size):
            clip, start = self._segment(update, item)
            begin, end = 0 if start == 0 else self.context, min(length, clip.frames - start)
            counts.append(end - begin)
            if 0 <= item - first < rows:
                mask[item - first, begin:end] = True
                items.append(self.reader.read(clip, start, length))
        count = torch.tensor(sum(counts) * rows / self.batch_size)
        return {**stack(items), "mask": torch.from_numpy(mask), "count": count}

    def _segment(self, update: int, item: int) -> tuple[Clip, int]:
        """Return a clip, and where the segment with its context starts in it."""
        clip, target = self._draw(update, item)
        length, hop = self.context + self.segment_length, self.reader.hop_length
        last = -(-max(0, clip.frames - length) // hop) * hop  # reaches the clip's end
        return clip, min(max(0, target - self.context) // hop * hop, last)

    def _draw(self, update: int, item: int) -> tuple[Clip, int]:
        """Return a clip and a sample of it, one of all samples of all clips."""
        seeds = np.random.SeedSequence([self.seed, update, item])
        generator = np.random.Generator(np.random.Philox(seeds))
        group = int(generator.integers(len(self.groups))) if len(self.groups) > 1 else 0
        ends = self.ends[group]
        sample = int(generator.integers(int(ends[-1])))
        index = int(np.searchsorted(ends, sample, side="right"))
        clip = self.clips[int(self.groups[group][index])]
        return clip, sample - int(ends[index]) + clip.frames


class SequentialSegments(Dataset[dict[str, Tensor]]):
    """Segments that cover each sample of the clips once, in order, each with its context.

    For a loader with `batch_size=None`.

    Args:
        reader: Reads the clips and their conditioning.
        clips: From the folder's manifest.
        segment_length: Samples on which the loss is computed.
        context: Samples before them: the receptive field.
        limit_seconds: Stop after this much audio, of the first clips; `None` for all.
    """

    def __init__(
        self,
        reader: ClipReader,
        clips: Sequence[Clip],
        *,
        segment_length: int,
        context: int,
        limit_seconds: float | None = None,
    ) -> None:
        _check(reader.folder, clips, segment_length=(segment_length, 1), context=(context, 0))
        if limit_seconds is not None and limit_seconds <= 0:
            raise ValueError(f"limit_seconds must be positive, got {limit_seconds}")
        self.reader = reader
        self.clips = clips
        self.segment_length = segment_length
        self.context = context
        self.frames = frames_of(clips)
        if limit_seconds is not None:
            limit = max(1, round(limit_seconds * clips[0].sample_rate))
            self.frames = np.diff(np.minimum(np.cumsum(self.frames), limit), prepend=0)
        self.ends = np.cumsum(-(-self.frames // segment_length))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return segment `index`.

        Returns:
            `waveform`, float32 `(1, T)` with `T` up to a hop more than `context + segment_length`,
            its conditioning (see `ClipReader.read`), and `mask`, bool of the waveform's shape,
            true where the loss is computed.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index must be 0 to {len(self) - 1}, got {index}")
        number = int(np.searchsorted(self.ends, index, side="right"))
        before = int(self.ends[number - 1]) if number else 0
        target = (index - before) * self.segment_length
        hop = self.reader.hop_length
        start = max(0, target - self.context) // hop * hop
        stop = min(target + self.segment_length, int(self.frames[number]))
        item = self.reader.read(self.clips[number], start, stop - start)
        mask = torch.zeros(1, stop - start, dtype=torch.bool)
        mask[:, target - start :] = True
        return {**stack([item]), "mask": mask}


def _clips_by_speaker(clips: Sequence[Clip]) -> list[ClipIndices]:
    """Return the indices of each speaker's clips, in order, speakers in the order of names."""
    speakers = speakers_of(clips)
    order = np.argsort(speakers, kind="stable")
    return [*np.split(order, np.flatnonzero(np.diff(speakers[order])) + 1)]


def divide_batch(batch_size: int, world_size: int, accumulate_grad_batches: int) -> int:
    """Return how many segments of an update each of its batches has.

    Raises:
        ConfigError: `batch_size` is not divisible.
    """
    parts = world_size * accumulate_grad_batches
    if batch_size % parts:
        raise ConfigError(
            f"trainer.global_batch_size={batch_size} is divided over {world_size} processes with "
            f"trainer.accumulate_grad_batches={accumulate_grad_batches} each: choose a multiple of "
            f"{parts}"
        )
    return batch_size // parts


def _check(folder: Path, clips: Sequence[Clip], **values: tuple[int, int]) -> None:
    """Raise unless there are clips, and each (value, minimum) is in order."""
    if not clips:
        raise DataError(
            f"{printable(folder)} has no clips for this: prepare it with more recordings, or "
            "with a larger data.valid_fraction or data.test_fraction"
        )
    for name, (value, minimum) in values.items():
        if value < minimum:
            raise ValueError(f"{name} must be {minimum} or more, got {value}")
