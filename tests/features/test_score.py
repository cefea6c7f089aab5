from pathlib import Path

import numpy as np
import pytest
import torch

from wavenet.config import AudioConfig, ScoreConfig
from wavenet.data.audio import open_wav
from wavenet.data.dataset import ClipReader, stack
from wavenet.data.manifest import Clip
from wavenet.features.frames import Features
from wavenet.features.score import (
    FADE_SECONDS,
    Note,
    cut_notes,
    piano_roll,
    read_notes,
    write_notes,
)
from wavenet.utils.errors import DataError

SCORE = [Note(0.0, 0.5, 60), Note(0.25, 1.0, 64), Note(1.5, 1.5, 67), Note(0.6, 2.0, 60)]
ROLL = ScoreConfig(sample_rate=8000, hop_length=80, midi_min=60, midi_max=67)  # frames of 10 ms


def test_a_score_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_notes(tmp_path / "score.csv", SCORE)

    assert read_notes(tmp_path / "score.csv") == SCORE


@pytest.mark.parametrize("names", ["onset,offset,pitch", "onset, offset, pitch"])
def test_the_first_line_may_name_the_columns(tmp_path: Path, names: str) -> None:
    (tmp_path / "score.csv").write_text(f"{names}\n0.5,1,60\nwrong\n")

    with pytest.raises(DataError, match="line 3"):
        read_notes(tmp_path / "score.csv")
    (tmp_path / "score.csv").write_text(f"{names}\n0.5,1,60\n")
    assert read_notes(tmp_path / "score.csv") == [Note(0.5, 1.0, 60)]


def test_times_are_kept_to_the_microsecond(tmp_path: Path) -> None:
    write_notes(tmp_path / "score.csv", [Note(1 / 3, 2 / 3, 127)])

    assert (tmp_path / "score.csv").read_text() == "0.333333,0.666667,127\n"


def test_an_empty_score_has_no_notes(tmp_path: Path) -> None:
    (tmp_path / "score.csv").write_text("")

    assert read_notes(tmp_path / "score.csv") == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "onset,offset,pitch",
        "0.5,1.0",
        "0.5,1.0,60,80",
        "0.5,1.0,60.5",
        "0.5;1.0;60",
        "1.0,0.5,60",
        "-0.1,0.5,60",
        "nan,0.5,60",
        "0.5,inf,60",
        "0.5,1.0,128",
        "0.5,1.0,-1",
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "score.csv").write_text(f"0.0,0.5,60\n{line}\n0.5,1.0,62\n")

    with pytest.raises(DataError, match=r"score\.csv, line 2: .*onset.*got '.*'$") as caught:
        read_notes(tmp_path / "score.csv")
    assert line in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_score_that_cannot_be_read_is_a_data_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "score.csv").write_bytes(content)

    with pytest.raises(DataError, match=r"score\.csv: cannot be read"):
        read_notes(tmp_path / "score.csv")


def test_an_excerpt_counts_from_its_start_and_is_cut_to_its_stop() -> None:
    early, late = cut_notes(SCORE, 0.5, 1.5)

    assert early == Note(0.0, 0.5, 64)
    assert late == pytest.approx(Note(0.1, 1.0, 60))


def test_excerpt_of_full_length_is_the_score() -> None:
    assert cut_notes(SCORE, 0.0, 2.0) == SCORE


def test_a_note_marks_where_it_starts_and_where_it_sounds() -> None:
    frames = piano_roll([Note(0.02, 0.05, 61)], 0, 8, ROLL)

    assert frames.shape == (16, 8)
    assert frames[8 + 1].tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    fading = np.exp(-np.arange(3) * 0.01 / FADE_SECONDS)
    np.testing.assert_allclose(frames[1], [0, 0, *fading, 0, 0, 0], rtol=1e-6)
    frames[[1, 9]] = 0
    assert not frames.any()


@pytest.mark.parametrize("hop_length", [80, 100, 256])
def test_a_note_that_starts_with_a_frame_and_ends_with_one_fills_those_between(
    hop_length: int,
) -> None:
    config = ScoreConfig(sample_rate=22050, hop_length=hop_length, midi_min=60, midi_max=60)
    for frame in range(500):
        note = Note(frame * hop_length / 22050, (frame + 3) * hop_length / 22050, 60)

        onsets, sounding = piano_roll([note], frame - 1, 6, config)

        assert onsets.argmax() == 1
        assert sounding.tolist() == [0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("note", [Note(0.025, 0.025, 60), Note(0.021, 0.029, 60)])
def test_a_note_shorter_than_a_frame_has_a_frame(note: Note) -> None:
    frames = piano_roll([note], 0, 5, ROLL)

    assert frames[0].tolist() == frames[8].tolist() == [0, 0, 1, 0, 0]


def test_a_note_struck_again_is_marked_again() -> None:
    onsets = piano_roll([Note(0.0, 0.03, 60), Note(0.03, 0.06, 60)], 0, 6, ROLL)[0]

    assert onsets[0] == onsets[3] == 1
    assert onsets[2] < 1


@pytest.mark.parametrize(("start", "frames"), [(0, 10), (40, 30), (99, 120), (250, 5)])
def test_piano_roll_from_a_frame_is_part_of_the_full_roll(start: int, frames: int) -> None:
    whole = piano_roll(SCORE, 0, 300, ROLL)

    np.testing.assert_array_equal(
        piano_roll(SCORE, start, frames, ROLL), whole[:, start : start + frames]
    )


@pytest.mark.parametrize("start", [0, 2000, 4800, 12000])
def test_piano_roll_of_an_excerpt_equals_that_of_the_clip(tmp_path: Path, start: int) -> None:
    samples = np.zeros(16000, np.float32)
    with open_wav(tmp_path / "a.wav", 8000) as writer:
        writer.write(samples)
    write_notes(tmp_path / "a.csv", SCORE)
    clip = Clip("a.wav", 16000, 8000, "", "train", "0" * 64, "a.wav", 0, "a.csv")
    audio = AudioConfig(sample_rate=8000, score=ROLL)
    features = Features(audio)

    item = ClipReader(tmp_path, audio).read(clip, start, 2000)

    whole = features.from_recording(samples, SCORE)
    assert whole.shape == (1, 16, 200)
    local = features(stack([item]))["local"]
    assert torch.equal(local, whole[:, :, start // 80 : start // 80 + 25])


def test_a_score_alone_has_frames_until_a_second_after_its_last_note() -> None:
    features = Features(AudioConfig(sample_rate=8000, score=ROLL))

    assert features.from_recording(None, SCORE).shape == (1, 16, 300)


def test_a_clip_without_a_score_is_a_data_error(tmp_path: Path) -> None:
    clip = Clip("a.wav", 16000, 8000, "", "train", "0" * 64, "a.wav", 0)
    with open_wav(tmp_path / "a.wav", 8000) as writer:
        writer.write(np.zeros(16000, np.float32))
    audio = AudioConfig(sample_rate=8000, score=ROLL)

    with pytest.raises(DataError, match=r"a\.wav has no notes"):
        ClipReader(tmp_path, audio).read(clip, 0, 800)
    with pytest.raises(DataError, match="conditioned on a score"):
        Features(audio).from_recording(np.zeros(800, np.float32))


@pytest.mark.parametrize("pitch", [59, 68])
def test_note_outside_the_models_range_is_refused(pitch: int) -> None:
    with pytest.raises(DataError, match=f"pitch {pitch} is outside of 60 to 67.*audio.score"):
        piano_roll([Note(0.0, 1.0, pitch)], 0, 10, ROLL)


def test_two_notes_of_one_pitch_both_have_their_onset_in_any_order() -> None:
    config = ScoreConfig(sample_rate=8000, hop_length=80, midi_min=60, midi_max=60)
    notes = [Note(0.1, 0.7, 60), Note(0.5, 0.9, 60)]

    there = piano_roll(notes, 0, 100, config)

    np.testing.assert_array_equal(there, piano_roll(notes[::-1], 0, 100, config))
    assert there[0, 10] == there[0, 50] == 1
