from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.inspection import Inspection, inspect
from wavenet.data.preparation.sources import Source

from .conftest import Record, Samples


def look(path: Path, **options: Any) -> Inspection:
    source = Source(path.name, path, path.stat().st_size, 0)
    return inspect(source, PrepareOptions(sample_rate=16000, **options))


def test_a_good_recording_has_no_problem_and_its_levels_are_known(
    record: Record, noise: Samples
) -> None:
    result = look(record("a.wav", noise))

    assert (result.problems, result.repairs, result.notes) == ((), (), ())
    assert result.seconds == 0.5
    assert result.peak == np.abs(noise).max()
    assert result.power == pytest.approx(np.mean(noise.astype(np.float64) ** 2))


def spoil(noise: Samples, index: int, value: float) -> Samples:
    spoilt = noise.copy()
    spoilt[index] = value
    return spoilt


CASES: list[tuple[str, Callable[[Samples], Samples], int, str]] = [
    ("nan_to_num", lambda x: spoil(x, 77, np.nan), 16000, "nan at frame 77 of channel 0, 1 such"),
    ("nan_to_num", lambda x: spoil(x, 5, -np.inf), 16000, "-inf at frame 5 of channel 0, 1 such"),
    ("clip", lambda x: spoil(x, 9, -1.5), 16000, "1 samples past 1.0, peak 1.5"),
    ("resample", lambda x: x, 44100, "44100 Hz, wanted 16000 Hz"),
    ("mono", lambda x: np.stack([x, x], axis=1), 16000, "2 channels, wanted 1"),
    (
        "allow_silent",
        lambda x: x * np.float32(1e-5),
        16000,
        "silent: standard deviation under 0.0001",
    ),
    ("allow_silent", lambda x: x * 0 + np.float32(0.5), 16000, "silent: standard deviation"),
]


@pytest.mark.parametrize(("option", "change", "sample_rate", "reason"), CASES)
def test_each_fault_is_named_with_the_option_that_repairs_it(
    record: Record,
    noise: Samples,
    option: str,
    change: Callable[[Samples], Samples],
    sample_rate: int,
    reason: str,
) -> None:
    path = record("a.wav", change(noise), sample_rate, subtype="FLOAT")

    (problem,) = look(path).problems
    repaired = look(path, **{option: True})

    assert problem.remedy == f"data.{option}=true"
    assert reason in problem.reason
    assert (repaired.problems, repaired.repairs) == ((), (option,))


def test_channels_that_cancel_are_silent_once_mixed(record: Record, noise: Samples) -> None:
    path = record("a.wav", np.stack([noise, -noise], axis=1), subtype="FLOAT")

    (problem,) = look(path, mono=True).problems

    assert "its channels cancel" in problem.reason


def test_a_short_recording_is_a_problem(record: Record, noise: Samples) -> None:
    path = record("a.wav", noise[:160])

    (problem,) = look(path).problems

    assert problem.reason == "0.010 s long, wanted 0.1 s or more"
    assert problem.remedy == "a lower data.min_seconds"
    assert look(path, min_seconds=0.01).problems == ()


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG"])
def test_truncated_recording_is_accepted_with_allow_truncated(
    record: Record, noise: Samples, form: str
) -> None:
    path = record(f"a.{form.lower()}", np.tile(noise / 4, 5))
    path.write_bytes(path.read_bytes()[:-5000])

    (problem,) = look(path).problems
    repaired = look(path, allow_truncated=True)

    assert problem.remedy == "data.allow_truncated=true"
    assert (repaired.problems, repaired.repairs) == ((), ("allow_truncated",))
    assert 0 < repaired.frames < 40_000


def test_content_that_differs_from_the_suffix_is_noted(record: Record, noise: Samples) -> None:
    result = look(record("a.wav", noise / 2, format="MP3"))

    assert result.problems == ()
    assert result.notes == ("is MP3, not what its suffix says",)


def test_an_offset_is_noted(record: Record, noise: Samples) -> None:
    result = look(record("a.wav", noise / 2 + 0.25))

    assert result.problems == ()
    assert "DC offset" in result.notes[0]


def test_every_fault_of_a_file_is_named_at_once(record: Record, noise: Samples) -> None:
    path = record("a.wav", np.stack([noise * 3, noise], axis=1), 8000, subtype="FLOAT")

    assert [p.option for p in look(path).problems] == ["clip", "resample", "mono"]
