import io
import os
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet.data.audio import (
    AudioHeader,
    open_wav,
    read_blocks,
    read_header,
    read_samples,
    wave_writer,
)
from wavenet.utils.errors import DataError, MachineError

Record = Callable[..., Path]
Samples = NDArray[np.float32]

FORMS = [
    ("WAV", "PCM_U8", "FILE"),
    ("WAV", "PCM_16", "FILE"),
    ("WAV", "PCM_16", "BIG"),  # RIFX
    ("WAV", "PCM_24", "FILE"),
    ("WAV", "PCM_32", "FILE"),
    ("WAV", "FLOAT", "FILE"),
    ("WAV", "DOUBLE", "FILE"),
    ("WAVEX", "PCM_24", "FILE"),
    ("RF64", "PCM_16", "FILE"),
    ("W64", "PCM_16", "FILE"),
    ("AIFF", "PCM_24", "FILE"),
    ("AU", "PCM_16", "FILE"),
    ("CAF", "ALAC_16", "FILE"),
    ("NIST", "PCM_16", "FILE"),
    ("FLAC", "PCM_16", "FILE"),
    ("FLAC", "PCM_24", "FILE"),
]


def test_header_matches_what_was_written(record: Record, noise: Samples) -> None:
    path = record("a.flac", np.stack([noise, noise], axis=1), 44100, subtype="PCM_24")

    assert read_header(path) == AudioHeader(8000, 44100, 2, "FLAC", "PCM_24")


@pytest.mark.parametrize(("form", "subtype", "endian"), FORMS)
def test_every_format_decodes_to_the_same_samples(
    record: Record, noise: Samples, form: str, subtype: str, endian: str
) -> None:
    path = record("twin", noise, format=form, subtype=subtype, endian=endian)

    np.testing.assert_array_equal(read_samples(path)[:, 0], noise)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_part_equals_the_same_part_of_the_file(record: Record, noise: Samples, form: str) -> None:
    path = record("whole", noise, format=form)

    part = read_samples(path, 1234, 2000)

    np.testing.assert_allclose(part, read_samples(path)[1234:3234], atol=1e-6)


def test_blocks_concatenate_to_the_file(record: Record) -> None:
    long = np.random.default_rng(0).uniform(-1, 1, (200_000, 2)).astype(np.float32)
    path = record("long.wav", long, subtype="FLOAT")

    blocks = list(read_blocks(path))

    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), long)


def test_a_part_past_the_end_is_refused(record: Record, noise: Samples) -> None:
    path = record("a.wav", noise)

    with pytest.raises(DataError, match=r"frames 7999 to 8001 were requested, it has 8000"):
        read_samples(path, 7999, 2)


def test_non_audio_file_is_refused_by_its_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to("nowhere")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.au").write_text("hello " * 100)
    wanted = {
        "pipe.wav": "a pipe or device",
        "link.wav": "a broken link",
        "empty.wav": "0 bytes",
        "text.au": "Format not recognised",
        "none.wav": "no such file",
        ".": "a folder",
    }

    for name, reason in wanted.items():
        with pytest.raises(DataError, match=reason):
            read_header(tmp_path / name)


def test_a_file_without_samples_is_refused(record: Record) -> None:
    path = record("none.wav", np.zeros(0))

    with pytest.raises(DataError, match="0 frames, wanted 1 or more:"):
        read_header(path)


def test_absurd_sizes_are_refused_before_anything_is_read(record: Record, noise: Samples) -> None:
    path = record("a.wav", noise)
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", 2**31 - 1)
    path.write_bytes(data)

    with pytest.raises(DataError, match="2147483647 Hz, wanted 1 to 768000"):
        read_header(path)


def test_a_flac_of_unknown_length_is_refused(record: Record, noise: Samples) -> None:
    path = record("stream.flac", noise)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # total samples: unknown
    path.write_bytes(data)

    with pytest.raises(DataError, match="write the file again"):
        read_samples(path)


def test_truncated_flac_reports_its_length(record: Record, noise: Samples) -> None:
    long = np.tile(noise, 5)
    path = record("cut.flac", long)
    path.write_bytes(path.read_bytes()[:-20_000])

    kept = read_samples(path, allow_truncated=True)

    assert 8000 < len(kept) < 30_000
    np.testing.assert_array_equal(kept[:, 0], long[: len(kept)])
    with pytest.raises(DataError, match=f"promises 40000 frames, found {len(kept)}:"):
        read_samples(path)


def test_a_sample_that_is_not_finite_is_named(record: Record, noise: Samples) -> None:
    noise[77] = np.nan
    path = record("nan.wav", noise, subtype="FLOAT")

    with pytest.raises(DataError, match="frame 77 of channel 0 is nan"):
        read_samples(path, 70, 20)


def test_control_characters_of_a_name_do_not_reach_the_message(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[31m.wav"
    path.touch()

    with pytest.raises(DataError) as caught:
        read_header(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF", "OGG"])
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_bytes_give_finite_samples_or_a_data_error(
    record: Record, form: str, data: st.DataObject
) -> None:
    path = record("mutated", np.random.default_rng(0).uniform(-1, 1, 500), format=form)
    content = bytearray(path.read_bytes())
    places = st.one_of(st.integers(0, 63), st.integers(0, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])

    try:
        samples = read_samples(path)
    except DataError:
        return
    assert np.isfinite(samples).all()


def write(path: Path, *blocks: Samples, sample_rate: int = 16000) -> None:
    with open_wav(path, sample_rate) as writer:
        for block in blocks:
            writer.write(block)


def test_written_samples_are_rounded_to_16_bits(tmp_path: Path, noise: Samples) -> None:
    path = tmp_path / "out.wav"
    edges = np.array([1.0, -1.0, 0.4 / 32768, 0.6 / 32768], np.float32)

    write(path, noise[:5000], noise[5000:], edges, sample_rate=22050)

    codes, sample_rate = soundfile.read(path, dtype="int16")
    assert sample_rate == 22050
    np.testing.assert_array_equal(codes[:8000], np.rint(noise * 32768))
    assert codes[8000:].tolist() == [32767, -32768, 0, 1]
    assert read_header(path) == AudioHeader(8004, 22050, 1, "WAV", "PCM_16")


def test_every_16_bit_code_survives(tmp_path: Path) -> None:
    codes = np.arange(-32768, 32768)

    write(tmp_path / "a.wav", (codes / 32768).astype(np.float32))

    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav", dtype="int16")[0], codes)


@pytest.mark.parametrize("bad", [1.001, -1.001, np.nan, np.inf])
def test_a_sample_past_one_is_named_and_nothing_is_written(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "out.wav"
    path.write_text("before")

    with pytest.raises(DataError, match="sample 12 is"):
        write(path, np.zeros(10, np.float32), np.array([0, 0, bad], np.float32))

    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_a_machine_error_and_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(MachineError, match="nothing was changed"):
            write(tmp_path / "out.wav", *[np.zeros(8000, np.float32)] * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert list(tmp_path.iterdir()) == []


def test_deleting_an_unclosed_writer_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    file = io.BytesIO()
    writer = wave_writer(file, 8000)

    file.close()
    del writer

    assert errors == []
