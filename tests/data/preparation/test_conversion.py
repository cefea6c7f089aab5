import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from wavenet.data.audio import MAX_OVERSHOOT, read_samples
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.conversion import Converted, clip_name, convert
from wavenet.data.preparation.inspection import inspect
from wavenet.data.preparation.sources import Source

from .conftest import Record, Samples


def prepared(path: Path, name: str = "", **options: Any) -> tuple[Converted, list[Samples]]:
    """Convert one file and return its report and the samples that were written."""
    settings = PrepareOptions(sample_rate=16000, **options)
    source = Source(name or path.name, path, path.stat().st_size, 0)
    folder = path.parent.parent / "out"
    result = convert(source, inspect(source, settings), folder, settings)
    return result, [read_samples(folder / clip.path)[:, 0] for clip in result.clips]


def test_16_bit_recording_is_converted_bit_exactly(record: Record, noise: Samples) -> None:
    result, (samples,) = prepared(record("a.flac", noise), "p225/a.flac", speaker_from_folder=True)

    (clip,) = result.clips
    written = (record("x.wav", noise).parent.parent / "out" / clip.path).read_bytes()
    np.testing.assert_array_equal(samples, noise)
    assert (clip.path, clip.frames, clip.speaker) == ("audio/p225/a.flac.wav", 8000, "p225")
    assert clip.digest == hashlib.sha256(written).hexdigest()


def test_each_repair_does_what_it_says(record: Record, noise: Samples) -> None:
    spoilt = np.stack([noise, noise], axis=1)
    spoilt[10], spoilt[20], spoilt[30] = (np.nan, 0.5), (np.inf, 0.25), (3.0, -3.0)
    path = record("a.wav", spoilt, subtype="FLOAT")

    _, (samples,) = prepared(path, nan_to_num=True, clip=True, mono=True)

    assert samples[[10, 20, 30]].tolist() == [0.25, 0.125, 0.0]
    np.testing.assert_array_equal(samples[31:], noise[31:])


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_what_a_decoder_overshoots_is_clipped_without_an_option(
    record: Record, suffix: str
) -> None:
    square = np.sign(np.sin(np.arange(8000) * 2 * np.pi / 80)).astype(np.float32)
    path = record(f"loud.{suffix}", square)
    decoded = read_samples(path)
    assert 1 < abs(decoded).max() < MAX_OVERSHOOT
    source = Source(path.name, path, path.stat().st_size, 0)

    inspection = inspect(source, PrepareOptions(sample_rate=16000))
    _, (samples,) = prepared(path)

    assert (inspection.problems, inspection.repairs) == ((), ("clip",))
    assert inspection.past_one == int((abs(decoded) > 1).sum())
    assert abs(samples).max() <= 1


def test_what_no_decoder_overshoots_is_clipped_with_the_option_only(
    record: Record, noise: Samples
) -> None:
    path = record("wrong_scale.ogg", 20 * noise)
    source = Source(path.name, path, path.stat().st_size, 0)

    (problem,) = inspect(source, PrepareOptions(sample_rate=16000)).problems

    assert problem.option == "clip"
    assert "perhaps damaged" in problem.reason


def test_resampling_in_blocks_equals_resampling_at_once(record: Record) -> None:
    long = np.random.default_rng(0).uniform(-0.3, 0.3, 150_000).astype(np.float32)
    path = record("a.wav", long, 44100, subtype="FLOAT")

    result, (samples,) = prepared(path, resample=True)

    whole = soxr.resample(long, 44100, 16000, quality="HQ")
    assert result.overshoot == 0
    np.testing.assert_allclose(samples, whole, atol=0.51 / 32768)


def test_overshoot_of_resampling_is_clipped_and_counted(record: Record) -> None:
    square = np.where(np.arange(9000) // 50 % 2, 1.0, -1.0).astype(np.float32)

    result, (samples,) = prepared(record("a.wav", square, 22050), resample=True)

    assert result.overshoot > 0
    assert np.abs(samples).max() <= 1.0


def test_trimming_removes_silence_at_both_ends_only(record: Record, noise: Samples) -> None:
    silence = np.zeros(16000, np.float32)
    path = record("a.wav", np.concatenate([silence, noise, silence, noise, silence]))

    result, (samples,) = prepared(path, trim_top_db=40.0)

    assert result.clips[0].start == pytest.approx(16000, abs=2048)
    assert len(samples) == pytest.approx(32000, abs=4096)
    assert result.removed_seconds == pytest.approx(2.0, abs=0.3)


def test_split_pieces_know_their_start(record: Record, noise: Samples) -> None:
    silence = np.zeros(16000, np.float32)
    whole = np.concatenate([noise, silence, noise[:400], silence, noise])

    result, pieces = prepared(record("a.wav", whole), split_top_db=40.0, min_seconds=0.2)

    assert [clip.path for clip in result.clips] == [
        "audio/a.wav.0001.wav",
        "audio/a.wav.0002.wav",
    ]
    assert result.too_short == 1
    for clip, piece in zip(result.clips, pieces, strict=True):
        np.testing.assert_array_equal(piece, whole[clip.start : clip.start + clip.frames])


def test_long_names_are_shortened_and_stay_unique() -> None:
    long = "é" * 120 + "{}.flac"

    names = [clip_name(f"{'d' * 250}/{long.format(i)}", piece) for i in (1, 2) for piece in (1, 2)]

    assert len(set(names)) == 4
    assert max(len(name.rpartition("/")[2].encode()) for name in names) <= 200
    assert clip_name("a/b.flac", None) == "audio/a/b.flac.wav"
