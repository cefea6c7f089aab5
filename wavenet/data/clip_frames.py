"""Frames of prepared clips that came with the recordings as files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet.config import FramesConfig
from wavenet.data.manifest import Clip
from wavenet.features.frame_file import normalized
from wavenet.utils.errors import DataError, printable

AGAIN = "prepare the recordings again, with audio.frames as it is now"


def read_clip_frames(
    folder: Path, clip: Clip, config: FramesConfig, first: int = 0, count: int | None = None
) -> NDArray[np.float32]:
    """Return frames of a clip as the model gets them, `(C, count)`.

    Frames past the clip's end repeat its last one, as they do in generation.

    Args:
        folder: The prepared folder.
        clip: From its manifest.
        config: Shape and normalization of the frames.
        first: First frame.
        count: Number of frames; `None` for all of the clip.

    Raises:
        DataError: The clip has no frames, or others.
    """
    frames = _open(folder, clip)
    wanted = (config.channels, -(-clip.frames // config.hop_length))
    if frames.shape != wanted or frames.dtype != np.float32:
        raise DataError(
            f"{printable(folder / clip.frames_file)} has shape {frames.shape}, the model needs "
            f"{wanted} for {clip.frames} samples, one every {config.hop_length}: {AGAIN}"
        )
    count = wanted[1] if count is None else count
    own = np.array(frames[:, first : first + count])
    own = np.pad(own, ((0, 0), (0, count - own.shape[1])), mode="edge")
    return normalized(own, config)


def _open(folder: Path, clip: Clip) -> NDArray[np.float32]:
    """Return the file of a clip's frames, mapped: a segment is read alone."""
    if not clip.frames_file:
        raise DataError(
            f"{printable(folder / clip.path)} has no frames, and the model is conditioned on "
            f"them: {AGAIN}"
        )
    path = folder / clip.frames_file
    try:
        frames: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{printable(path)} cannot be read: {printable(error)}: {AGAIN}") from None
    return frames
