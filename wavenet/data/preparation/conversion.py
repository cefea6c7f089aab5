"""Converts one recording to clips: repaired by the options, mono, 16-bit, at one sample rate.

Samples are streamed in blocks. Only trimming and splitting, which need the loudest part first, hold
a complete recording in memory.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from wavenet.data.audio import open_wav, read_blocks
from wavenet.data.manifest import Clip
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.frame_files import read_source_frames, write_clip_frames
from wavenet.data.preparation.inspection import Inspection
from wavenet.data.preparation.sources import Source
from wavenet.data.resampling import resampled
from wavenet.features.f0 import compiled_librosa
from wavenet.features.score import cut_notes, read_notes, write_notes
from wavenet.utils.files import file_digest

AUDIO = "audio"  # folder of the clips
NOTES = "notes"  # folder of their scores
FRAMES = "frames"  # folder of their frames
PARTS = (AUDIO, NOTES, FRAMES)
MAX_NAME_BYTES = 200  # bytes; file systems hold 255, and a temporary name adds to it

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Converted:
    """Result of converting one recording.

    Attributes:
        clips: What was written, all of them marked `train` until the split is made.
        overshoot: Samples limited to 1.0 after resampling.
        too_short: Pieces left out because they are shorter than `min_seconds`.
        removed_seconds: Silence removed by trimming and splitting, and too short pieces.
    """

    clips: tuple[Clip, ...]
    overshoot: int
    too_short: int
    removed_seconds: float


def convert(
    source: Source, inspection: Inspection, folder: Path, options: PrepareOptions
) -> Converted:
    """Write the clips of `source` below `folder` and return them.

    Args:
        source: A recording.
        inspection: What `inspect` found in it.
        folder: The prepared folder.
        options: Repairs, trimming and splitting.
    """
    overshoot, rate = 0, options.sample_rate

    def limit(block: Samples) -> Samples:
        nonlocal overshoot
        overshoot += int((np.abs(block) > 1.0).sum())
        return np.clip(block, -1.0, 1.0)

    blocks, frames, hop = _mono(source, options), None, 1
    if inspection.sample_rate != rate:
        blocks = map(limit, resampled(blocks, inspection.sample_rate, rate))
    if source.frames is not None:
        frames, hop = read_source_frames(source), source.frames.hop_length
        if options.cut_to_frames:
            blocks = _first(blocks, frames.shape[1] * hop)
    if options.trim_top_db is None and options.split_top_db is None:
        clip = _write(source, folder, options, 0, blocks, None, frames)
        return Converted((clip,) if clip else (), overshoot, 0, 0.0)
    samples = np.concatenate([np.zeros(0, np.float32), *blocks])
    least = max(1, round(options.min_seconds * rate))
    spans = [(start // hop * hop, stop) for start, stop in sounding(samples, options)]
    long_enough = [(start, stop) for start, stop in spans if stop - start >= least]
    clips = []
    for number, (start, stop) in enumerate(long_enough, 1):
        piece = number if options.split_top_db is not None else None
        own = iter([samples[start:stop]])
        clips.append(_write(source, folder, options, start, own, piece, frames))
    removed = len(samples) - sum(stop - start for start, stop in long_enough)
    too_short = len(spans) - len(long_enough)
    written = tuple(clip for clip in clips if clip)
    return Converted(written, overshoot, too_short, removed / rate)


def sounding(samples: Samples, options: PrepareOptions) -> list[tuple[int, int]]:
    """Return where `samples`, `(T,)`, sound: first sample and the one after the last, in order."""
    start, stop = 0, len(samples)
    if options.trim_top_db is not None and stop:
        _, (start, stop) = compiled_librosa().effects.trim(samples, top_db=options.trim_top_db)
    if options.split_top_db is None or stop <= start:
        return [(int(start), int(stop))] if stop > start else []
    spans = compiled_librosa().effects.split(samples[start:stop], top_db=options.split_top_db)
    return [(int(start + first), int(start + last)) for first, last in spans]


def clip_name(source: str, piece: int | None) -> str:
    """Return where a clip of `source` lies in the prepared folder, unlike any other's place."""
    path = PurePosixPath(source)
    ending = ".wav" if piece is None else f".{piece:04}.wav"
    stem, name = path.name, path.name.encode("utf-8", "surrogateescape")
    if len(name) + len(ending) > MAX_NAME_BYTES:
        digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        short = name[: MAX_NAME_BYTES - len(digest) - len(ending) - 1].decode("utf-8", "ignore")
        stem = f"{short}-{digest}"
    return str(PurePosixPath(AUDIO, path.parent, stem + ending))


def _write(
    source: Source,
    folder: Path,
    options: PrepareOptions,
    start: int,
    blocks: Iterator[Samples],
    piece: int | None,
    frames: Samples | None,
) -> Clip | None:
    """Write one clip and return it, or `None` where `blocks` hold no sample."""
    name = clip_name(source.name, piece)
    with open_wav(folder / name, options.sample_rate) as writer:
        for block in blocks:
            writer.write(block)
    if not writer.frames:
        (folder / name).unlink()
        return None
    folder_speaker = ""
    if options.speaker_from_folder:
        folder_speaker = source.folder_speaker(options.split_from_folder)
    notes, frames_file, rate = "", "", options.sample_rate
    if source.notes is not None:  # times count from the clip's start
        notes = f"{NOTES}{name.removeprefix(AUDIO).removesuffix('.wav')}.csv"
        own = cut_notes(read_notes(source.notes), start / rate, (start + writer.frames) / rate)
        write_notes(folder / notes, own)
    if frames is not None and source.frames is not None:
        frames_file = f"{FRAMES}{name.removeprefix(AUDIO).removesuffix('.wav')}.npy"
        hop = source.frames.hop_length
        write_clip_frames(folder / frames_file, frames, start, writer.frames, hop)
    return Clip(
        path=name,
        frames=writer.frames,
        sample_rate=rate,
        speaker=source.speaker or folder_speaker,
        split="train",
        digest=file_digest(folder / name),
        source=source.name,
        start=start,
        notes=notes,
        frames_file=frames_file,
        frames_digest=file_digest(folder / frames_file) if frames_file else "",
    )


def _mono(source: Source, options: PrepareOptions) -> Iterator[Samples]:
    """Yield `source` as one channel in [-1, 1], at its own rate, in blocks `(T,)`."""
    for block in read_blocks(source.path, allow_truncated=options.allow_truncated):
        if options.nan_to_num:
            block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        block = np.clip(block, -1.0, 1.0)  # what `inspect` lets pass
        yield block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]


def _first(blocks: Iterator[Samples], length: int) -> Iterator[Samples]:
    """Yield the first `length` samples of `blocks`."""
    for block in blocks:
        yield block[:length]
        length -= len(block)
        if length <= 0:
            return
