"""Datasets of segments of clips with their conditioning.

Segments come at random for training (`RandomSegments`) and one after another for evaluation
(`SequentialSegments`). Both read only the segment from a prepared file. Each item is a pure
function of its index, so a loader has no state to save; a mask marks the samples on which the loss
is computed.

What is cheap to compute is read in the loader's workers: the speaker id, the piano roll, F0, frames
of files. A mel spectrogram is computed from the waveform on the training device; for it the item
holds the samples around the segment too, so that its frames equal those of the complete clip.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from wavenet.config import AudioConfig, F0Config
from wavenet.data.audio import read_samples, soundfile
from wavenet.data.clip_frames import read_clip_frames
from wavenet.data.manifest import Clip, frames_of, speakers_of
from wavenet.features.f0 import f0_features
from wavenet.features.filters import build_filter
from wavenet.features.mel import LogMel
from wavenet.features.score import piano_roll, read_notes
from wavenet.utils.data_identity import NULL_SPEAKER
from wavenet.utils.errors import ConfigError, DataError, printable

ClipIndices = range | NDArray[np.intp]
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
        self.is_filtered = not self.signal_filter.is_identity
        self.has_frames = audio is not None and bool(audio.features)
        self.margin = LogMel(audio.mel).margin if audio is not None and audio.mel is not None else 0
        self._numbers = {name: i for i, name in enumerate(audio.speaker_names)} if audio else {}
        self._f0_of_clip: dict[str, Samples] = {}

    def read(self, clip: Clip, start: int, length: int) -> dict[str, Tensor]:
        """Return `length` samples of a clip from `start` on, a multiple of `hop_length`.

        Outside the clip there is silence.

        Returns:
            `waveform`, `(length,)`; depending on the audio config `around`, samples from `margin`
            before to `margin` after the frames, `frames` `(C, F)` of F0, the piano roll and files,
            and `speaker`, its id.
        """
        memory = self.signal_filter.memory
        waveform = torch.from_numpy(self._samples(clip, start - memory, length + memory))
        item = {"waveform": self.signal_filter.valid(waveform) if self.is_filtered else waveform}
        audio = self.audio
        if audio is None:
            return item
        if audio.speaker_names:
            item["speaker"] = torch.tensor(self._numbers.get(clip.speaker, NULL_SPEAKER))
        if not self.has_frames:
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
        if audio.frames is not None:
            first = start // self.hop_length
            rows.append(read_clip_frames(self.folder, clip, audio.frames, first, count))
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
        if stop <= first:
            return samples
        samples[first - start : stop - start] = self._read(clip, first, stop - first)
        return samples

    def _read(self, clip: Clip, first: int, count: int) -> Samples:
        """Return samples of a file; one that is not as it was prepared is read with every check."""
        path = self.folder / clip.path
        try:
            found, _ = soundfile().read(path, count, first, dtype="float32")
            if found.shape == (count,) and np.isfinite(found).all():
                return cast("Samples", found)
        except (OSError, RuntimeError, ValueError):
            pass
        try:
            return read_samples(path, first, count)[:, 0]
        except DataError as error:
            raise DataError(
                f"{error}; but the manifest lists it: run wavenet-prepare again"
            ) from None


def read_clip(folder: Path, clip: Clip) -> Samples:
    """Return all samples of a prepared clip, `(T,)`."""
    return np.ascontiguousarray(read_samples(folder / clip.path)[:, 0])


def stack(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return segments of one length as a batch."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


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
        _check(
            reader.folder,
            clips,
            segment_length=(segment_length, 1),
            context=(context, 0),
            batch_size=(batch_size, 1),
            seed=(seed, 0),
            accumulate_grad_batches=(accumulate_grad_batches, 1),
        )
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
        frames = frames_of(clips)
        self._groups: list[ClipIndices] = [range(len(clips))]
        self._ends = [np.cumsum(frames)]
        if balance_speakers:
            self._groups = _clips_by_speaker(clips)
            self._ends = [np.cumsum(frames[group]) for group in self._groups]

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
        group = int(generator.integers(len(self._groups))) if len(self._groups) > 1 else 0
        ends = self._ends[group]
        sample = int(generator.integers(int(ends[-1])))
        index = int(np.searchsorted(ends, sample, side="right"))
        clip = self.clips[int(self._groups[group][index])]
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
        context: int,
        segment_length: int = 16_384,
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
