"""Files of frames: what is read, and what is refused with the file, what it has and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from wavenet.config import FramesConfig
from wavenet.features.frame_file import (
    find_frame_file,
    frames_covering,
    normalized,
    read_frame_file,
    read_npy,
)
from wavenet.utils.errors import ConfigError, DataError

FRAMES = FramesConfig(sample_rate=8000, hop_length=80, channels=3)
ARRAY = np.arange(21, dtype=np.float32).reshape(3, 7)


def npy(folder: Path, array: NDArray[Any]) -> Path:
    path = folder / "frames.npy"
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    "array",
    [
        ARRAY,
        ARRAY.astype(np.float64),
        ARRAY.astype(np.int64),
        ARRAY[None],
        np.asfortranarray(ARRAY),
    ],
    ids=["float32", "float64", "int64", "batch of one", "Fortran order"],
)
def test_an_array_of_numbers_is_read(tmp_path: Path, array: NDArray[Any]) -> None:
    np.testing.assert_array_equal(read_frame_file(npy(tmp_path, array), FRAMES), ARRAY)


def test_one_tensor_of_any_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "frames.safetensors"
    save_file({"world": torch.from_numpy(ARRAY).double()}, path)

    np.testing.assert_array_equal(read_frame_file(path, FRAMES), ARRAY)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (ARRAY[:2], r"frames.npy has shape \(2, 7\), expected \(3, F\), a frame every 80 samples$"),
        (ARRAY.T, r"has shape \(7, 3\), expected \(3, F\).*: it looks transposed, numpy.save"),
        (ARRAY[0], r"has shape \(7,\), expected \(3, F\)"),
        (ARRAY[:, :0], r"has shape \(3, 0\)"),
        (np.where(ARRAY == 9, np.nan, ARRAY), "holds nan in channel 1 of frame 2, expected finite"),
        (np.where(ARRAY == 9, np.inf, ARRAY), "holds inf in channel 1 of frame 2"),
        (ARRAY * 1j, "is not an array of numbers"),
        (np.array([["a"] * 7] * 3), "is not an array of numbers"),
    ],
    ids=["channels", "transposed", "one axis", "empty", "nan", "inf", "complex", "text"],
)
def test_another_array_is_refused(tmp_path: Path, array: NDArray[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_frame_file(npy(tmp_path, array), FRAMES)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.zeros(3, 7), "b": torch.zeros(3, 7)}, "holds 2 tensors, expected one"),
        ({"a": torch.zeros(7, 3)}, "looks transposed"),
        ({"a": torch.zeros(3, 7, dtype=torch.complex64)}, "complex numbers"),
    ],
    ids=["two", "transposed", "complex"],
)
def test_other_tensors_are_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    path = tmp_path / "frames.safetensors"
    save_file(tensors, path)

    with pytest.raises(DataError, match=message):
        read_frame_file(path, FRAMES)


def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frames.safetensors"
    path.write_bytes(b"RIFF....WAVE")

    with pytest.raises(DataError, match="is not a safetensors file"):
        read_frame_file(path, FRAMES)


def test_frames_are_normalized_by_channel() -> None:
    config = FramesConfig(
        sample_rate=8000, hop_length=80, channels=3, mean=(1, 2, 3), std=(1, 2, 4)
    )

    expected = (ARRAY - [[1], [2], [3]]) / [[1], [2], [4]]
    np.testing.assert_allclose(normalized(ARRAY, config), expected)


@pytest.mark.parametrize(
    ("length", "frames"), [(560, 7), (559, 7), (481, 7), (480, 6)], ids=["560", "559", "481", "480"]
)
def test_one_frame_more_than_the_recording_has_is_cut(length: int, frames: int) -> None:
    assert frames_covering(ARRAY, length, FRAMES, "clip.npy").shape == (3, frames)


@pytest.mark.parametrize(("length", "wanted"), [(561, 8), (400, 5)], ids=["fewer", "two more"])
def test_other_numbers_of_frames_are_refused(length: int, wanted: int) -> None:
    message = f"clip.npy has 7 frames, expected {wanted} for {length} samples, one every 80"
    with pytest.raises(DataError, match=message):
        frames_covering(ARRAY, length, FRAMES, "clip.npy")


def test_a_recording_has_one_file_of_its_name(tmp_path: Path) -> None:
    recording = tmp_path / "clip.wav"

    with pytest.raises(DataError, match=r"no frames of clip.wav: add clip.npy or clip.safetensors"):
        find_frame_file(recording)
    (tmp_path / "clip.npy").touch()
    assert find_frame_file(recording) == tmp_path / "clip.npy"
    (tmp_path / "clip.safetensors").touch()
    with pytest.raises(DataError, match="in two files"):
        find_frame_file(recording)


def test_statistics_of_other_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="mean must be 1 or 3 numbers, got 2"):
        FramesConfig(sample_rate=8000, hop_length=80, channels=3, mean=(1, 2))


def test_a_header_of_npy_that_is_no_python_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frames.npy"
    np.save(path, np.zeros((2, 3), np.float32))
    path.write_bytes(path.read_bytes().replace(b"'<f4'", b"',f4'"))

    with pytest.raises(DataError, match=r"frames\.npy is not an array of numbers"):
        read_npy(path)
