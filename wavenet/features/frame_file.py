"""Frames as files: arrays `(C, F)` that the user computes, in `.npy` or `.safetensors`.

`wavenet.config.FramesConfig` has their shape; what the channels mean, nobody here knows. A file
that belongs to a recording has its name: `clip.npy` for `clip.wav`.
"""

from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wavenet.config import FramesConfig
from wavenet.utils.errors import DataError, listed, printable
from wavenet.utils.safetensors_file import check_safetensors

ARRAYS = (".npy", ".safetensors")
HEADER_ERRORS = (SyntaxError, TokenError)  # of NumPy, which parses headers of .npy as Python


def find_frame_file(recording: Path) -> Path:
    """Return the file of frames beside a recording, or beside where it might be.

    Raises:
        DataError: There is none, or there are two.
    """
    files = [recording.with_suffix(suffix) for suffix in ARRAYS]
    found = [file for file in files if file.is_file()]
    if not found:
        names = " or ".join(printable(file.name) for file in files)
        folder = printable(recording.parent)
        raise DataError(f"{folder} has no frames of {printable(recording.name)}: add {names}")
    if len(found) > 1:
        names = " and ".join(printable(file) for file in found)
        raise DataError(f"the frames are in two files, {names}: remove one of them")
    return found[0]


def read_frame_file(path: Path, config: FramesConfig) -> NDArray[np.float32]:
    """Return the frames of a file as they are, `(C, F)` with `F` of 1 or more.

    Args:
        path: A `.npy` array, or a `.safetensors` file of one tensor.
        config: Their shape.

    Raises:
        DataError: The file holds something else, an array of another shape, NaN or infinity.
    """
    frames = read_npy(path) if path.suffix.lower() == ".npy" else _only_tensor(path)
    if frames.ndim != 2 or len(frames) != config.channels or not frames.shape[1]:
        turned = ""
        if frames.ndim == 2 and frames.shape[1] == config.channels:
            turned = ": it looks transposed, numpy.save(NAME, frames.T) writes it as it must be"
        raise DataError(
            f"{printable(path)} has shape {frames.shape}, expected {config.shape}{turned}"
        )
    if not np.isfinite(frames).all():
        channel, frame = np.argwhere(~np.isfinite(frames))[0]
        raise DataError(
            f"{printable(path)} holds {frames[channel, frame]} in channel {channel} of frame "
            f"{frame}, expected finite numbers: compute the frames again"
        )
    return frames


def normalized(frames: NDArray[np.float32], config: FramesConfig) -> NDArray[np.float32]:
    """Return frames, `(C, F)`, as the model gets them."""
    mean, std = (np.array(values, np.float32)[:, None] for values in (config.mean, config.std))
    return (frames - mean) / std


def frames_covering(
    frames: NDArray[np.float32], length: int, config: FramesConfig, where: str
) -> NDArray[np.float32]:
    """Return the frames of a recording: as many as it has hops, the last one begun.

    Projects write one more where they center the last frame on the end.

    Args:
        frames: All of the file, `(C, F)`.
        length: Samples of the recording.
        config: Samples from one frame to the next.
        where: Name of the file.

    Raises:
        DataError: There are fewer, or more than one more.
    """
    problem = frame_count_problem(frames.shape[1], length, config.hop_length)
    if problem is not None:
        raise DataError(f"{where} has {problem}: compute the frames of this recording again")
    return frames[:, : -(-length // config.hop_length)]


def frame_count_problem(count: int, length: int, hop_length: int) -> str | None:
    """Return in words what is wrong with the number of frames of a recording, if anything is."""
    wanted = -(-length // hop_length)
    if wanted <= count <= wanted + 1:
        return None
    return f"{count} frames, expected {wanted} for {length} samples, one every {hop_length}"


def read_npy(path: Path) -> NDArray[np.float32]:
    """Return a `.npy` array of numbers, without the first axis of three if that has length 1.

    Raises:
        DataError: The file holds something else, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
        with np.errstate(over="ignore"):  # infinity is refused where it matters
            array = values.astype(np.float32, casting="same_kind")
    except (OSError, ValueError, TypeError, EOFError, MemoryError, *HEADER_ERRORS) as error:
        raise DataError(
            f"{printable(path)} is not an array of numbers: {printable(error)}"
        ) from None
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _only_tensor(path: Path) -> NDArray[np.float32]:
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            names = sorted(file.keys())
            if len(names) != 1:
                found = [printable(name) for name in names]
                raise DataError(
                    f"{printable(path)} holds {len(names)} tensors, expected one, the frames:"
                    f"{listed(found)}"
                )
            tensor: Tensor = file.get_tensor(names[0])
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(
            f"{printable(path)} is not a safetensors file: {printable(error)}"
        ) from None
    if tensor.is_complex():
        raise DataError(f"{printable(path)} holds complex numbers, expected real ones")
    array: NDArray[np.float32] = tensor.float().numpy()
    return array[0] if array.ndim == 3 and len(array) == 1 else array
