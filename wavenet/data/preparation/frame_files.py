"""Frames in files beside recordings: found, checked against the recording, cut as its clips.

They are copied into the prepared folder as they are; a model's normalization is applied where they
are read (`wavenet.data.clip_frames`).
"""

import contextlib
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.config import FramesConfig
from wavenet.data.preparation.sources import Source, SourceListing, most_first
from wavenet.features.frame_file import find_frame_file, frame_count_problem, read_frame_file
from wavenet.utils.errors import DataError, printable
from wavenet.utils.files import atomic_file

Frames = NDArray[np.float32]


def with_frames(
    found: SourceListing, config: FramesConfig, folder: Path | None = None
) -> SourceListing:
    """Return recordings with the files of their frames, as far as they have them.

    Args:
        found: The recordings.
        config: Shape of the frames.
        folder: Where the files are, in folders as the recordings are; `None` for beside them.
    """
    sources, others = [], Counter(dict(found.others))
    for source in found.sources:
        place = source.path if folder is None else folder / source.name
        file = None
        with contextlib.suppress(DataError):  # which checking the recording tells
            file = find_frame_file(place)
        if file is not None and folder is None:
            others -= Counter([file.suffix[1:]])
        sources.append(
            dataclasses.replace(source, frames=config, frames_place=place, frames_file=file)
        )
    return dataclasses.replace(found, sources=tuple(sources), others=most_first(others))


def frames_key(source: Source) -> list[Any]:
    """Return what tells one state of a recording's frames from another; empty without frames."""
    if source.frames is None:
        return []
    size = mtime_ns = 0
    with contextlib.suppress(OSError):
        status = (source.frames_file or source.path).stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
    name = "" if source.frames_file is None else source.frames_file.name
    return [name, size, mtime_ns, source.frames.channels, source.frames.hop_length]


def frames_problem(source: Source, length: int) -> tuple[str, str] | None:
    """Return what is wrong with a recording's frames, and the option that helps or nothing.

    Args:
        source: The recording.
        length: Its samples at the rate of the model.
    """
    if source.frames is None:
        return None
    try:
        frames = read_source_frames(source)
    except DataError as error:
        return str(error), ""
    problem = frame_count_problem(frames.shape[1], length, source.frames.hop_length)
    if problem is None or source.frames_file is None:
        return None
    return f"{printable(source.frames_file.name)} has {problem}", "cut_to_frames"


def read_source_frames(source: Source) -> Frames:
    """Return the frames of a recording that has `frames`, `(C, F)`.

    Raises:
        DataError: There is no file, or it holds something else.
    """
    assert source.frames is not None
    assert source.frames_place is not None
    file = source.frames_file or find_frame_file(source.frames_place)  # raises
    return read_frame_file(file, source.frames)


def write_clip_frames(path: Path, frames: Frames, start: int, length: int, hop_length: int) -> None:
    """Write the frames of a clip, atomically; those of a segment lie together in the file.

    Args:
        path: The file.
        frames: Of the recording, `(C, F)`.
        start: First sample of the clip within the recording, a multiple of `hop_length`.
        length: Samples of the clip.
        hop_length: Samples from one frame to the next.
    """
    first, count = start // hop_length, -(-length // hop_length)
    own = frames[:, first : first + count]
    missing = count - own.shape[1]  # one where resampling gave a sample more than was computed
    own = np.pad(own, ((0, 0), (0, missing)), mode="edge")
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.asfortranarray(own))
