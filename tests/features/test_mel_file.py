import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from wavenet.config import MelConfig
from wavenet.features.mel import METADATA, LogMel, read_mel, write_mel
from wavenet.presets import MEL_PRESETS
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import ConfigError, DataError

EIGHT = MEL_PRESETS["8khz"]  # of 64 bands
NORMALISED = dataclasses.replace(
    EIGHT, mean=tuple(-band / 10 for band in range(64)), std=tuple(1 + band for band in range(64))
)


def npy(array: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npy_that_claims(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def npz(**arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.fixture
def mel() -> torch.Tensor:
    return torch.randn(64, 7, generator=torch.Generator().manual_seed(0))


def test_a_mel_is_read_as_it_was_written(tmp_path: Path, mel: torch.Tensor) -> None:
    path = tmp_path / "a b.safetensors"

    write_mel(path, mel.T.contiguous().T, EIGHT)

    assert torch.equal(read_mel(path, EIGHT), mel)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a b.safetensors"]


@pytest.mark.parametrize(
    ("written", "wanted"), [(EIGHT, NORMALISED), (NORMALISED, EIGHT), (NORMALISED, NORMALISED)]
)
def test_other_normalization_is_converted(
    tmp_path: Path, noise: NDArray[np.float32], written: MelConfig, wanted: MelConfig
) -> None:
    path, waveform = tmp_path / "a.safetensors", torch.from_numpy(noise)[None]
    write_mel(path, LogMel(written)(waveform)[0], written)

    found = read_mel(path, wanted)

    torch.testing.assert_close(found, LogMel(wanted)(waveform)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hop_length", 100),
        ("f_min", 50.0),
        ("log_base", "log10"),
        ("log_floor", 1e-6),
        ("norm", "none"),
    ],
)
def test_other_mel_parameters_are_refused_and_both_are_shown(
    tmp_path: Path, mel: torch.Tensor, name: str, value: Any
) -> None:
    path = tmp_path / "a.safetensors"
    write_mel(path, mel, dataclasses.replace(EIGHT, **{name: value}))

    wanted = f"{getattr(EIGHT, name)} wanted; compute it again"
    with pytest.raises(
        DataError, match=rf"\.safetensors: .* {name}: {value} there, {wanted}"
    ) as caught:
        read_mel(path, EIGHT)
    assert str(caught.value).count("wanted") == 1  # what is alike is not named


def test_another_number_of_mel_bands_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_mel(path, torch.zeros(80, 7), MEL_PRESETS["16khz"])

    with pytest.raises(DataError, match="sample_rate: 16000 there, 8000 wanted.* n_mels: 80 there"):
        read_mel(path, EIGHT)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((7, 64), r"\(7, 64\), expected \(64, F\); it looks transposed"),
        ((64,), "64"),
        ((), r"\(\)"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_another_shape_is_refused(
    tmp_path: Path, shape: tuple[int, ...], message: str, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, np.zeros(shape, np.float32))
    else:
        write_mel(path, torch.zeros(shape), EIGHT)

    with pytest.raises(DataError, match=f"a.{suffix} has shape .*{message}"):
        read_mel(path, EIGHT, "model")


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_a_mel_that_holds_no_numbers_is_refused(
    tmp_path: Path, mel: torch.Tensor, bad: float
) -> None:
    mel[3, 4] = bad
    write_mel(tmp_path / "a.safetensors", mel, EIGHT)

    with pytest.raises(DataError, match=r"a\.safetensors holds NaN or infinity"):
        read_mel(tmp_path / "a.safetensors", EIGHT)


GOOD = {"mel": torch.zeros(64, 7)}
PLAIN = to_dict(EIGHT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header"),
        (b"no tensor at all", "header"),
        (save(GOOD, {METADATA: json.dumps(PLAIN)})[:-9], ""),
        (save(GOOD), METADATA),
        (save(GOOD, {METADATA: "{"}), ""),
        (save(GOOD, {METADATA: "[" * 100_000}), "nested too deeply"),
        (save(GOOD, {METADATA: "[]"}), "must be a mapping"),
        (save(GOOD, {METADATA: json.dumps({**PLAIN, "colour": 1})}), "unknown key 'colour'"),
        (save(GOOD, {METADATA: json.dumps({**PLAIN, "hop_length": "80"})}), "a whole number"),
        (save(GOOD, {METADATA: json.dumps({**PLAIN, "std": [0.0]})}), "std must be positive"),
        (save({"lem": GOOD["mel"]}, {METADATA: json.dumps(PLAIN)}), "mel"),
    ],
    ids=[
        *("empty", "garbage", "cut", "no convention", "no JSON", "deep JSON", "a list"),
        *("unknown key", "text for a number", "no deviation", "other tensor"),
    ],
)
def test_a_damaged_file_is_a_data_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)

    with pytest.raises(
        DataError, match=rf"a\.safetensors is not a mel file of wavenet: .*{message}"
    ):
        read_mel(path, EIGHT)


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_missing_file_is_a_data_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_mel(tmp_path / f"a.{suffix}", EIGHT, "model")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_array_with_the_models_parameters_is_unchanged(
    tmp_path: Path, mel: torch.Tensor, dtype: str
) -> None:
    np.save(tmp_path / "a.npy", mel.numpy().astype(dtype))

    found = read_mel(tmp_path / "a.npy", NORMALISED, "model")

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, mel, rtol=1e-3, atol=1e-3)


def test_array_with_batch_axis_of_1_is_accepted(tmp_path: Path, mel: torch.Tensor) -> None:
    np.save(tmp_path / "a.npy", mel.numpy()[None])

    assert torch.equal(read_mel(tmp_path / "a.npy", EIGHT, "model"), mel)


def test_array_of_a_named_preset_is_renormalized(tmp_path: Path, mel: torch.Tensor) -> None:
    np.save(tmp_path / "a.npy", mel.numpy())

    found = read_mel(tmp_path / "a.npy", NORMALISED, "8khz")

    mean, std = (torch.tensor(getattr(NORMALISED, name))[:, None] for name in ("mean", "std"))
    torch.testing.assert_close(found, (mel - mean) / std)


def test_array_of_an_incompatible_preset_is_refused(tmp_path: Path, mel: torch.Tensor) -> None:
    np.save(tmp_path / "a.npy", mel.numpy())

    with pytest.raises(DataError, match="sample_rate: 22050 there, 8000 wanted"):
        read_mel(tmp_path / "a.npy", EIGHT, "tacotron2")


@pytest.mark.parametrize(
    ("convention", "message"),
    [
        (None, "add mel_preset=NAME, one of 16khz, 8khz, .*or model"),
        ("8hz", "no mel preset '8hz'; did you mean '8khz'"),
    ],
)
def test_array_without_a_known_preset_is_a_config_error(
    tmp_path: Path, mel: torch.Tensor, convention: str | None, message: str
) -> None:
    np.save(tmp_path / "a.npy", mel.numpy())

    with pytest.raises(ConfigError, match=message):
        read_mel(tmp_path / "a.npy", EIGHT, convention)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no archive",
        npz(mel=np.zeros((64, 7), np.float32)),
        npy(np.zeros((64, 7), np.float32))[:-5],
        npy(np.zeros((64, 7), np.float32))[:40],
        npy_that_claims((64, 10**12)),
        npy(np.zeros((64, 7), np.complex64)),
        npy(np.full((64, 7), "1.0")),
        npy(np.full((64, 7), None), allow_pickle=True),
    ],
    ids=["empty", "zip", "npz", "cut", "cut head", "huge", "complex", "text", "objects"],
)
def test_non_numeric_array_file_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)

    with pytest.raises(DataError, match=r"a\.npy is not an array of numbers"):
        read_mel(tmp_path / "a.npy", EIGHT, "model")
