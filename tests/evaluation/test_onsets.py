import numpy as np
import pytest

from wavenet.evaluation.onsets import onset_score, score_onsets, sound_onsets
from wavenet.features.score import Note

RATE = 8000
STARTS = (0.5, 1.0, 1.35, 2.1, 2.5)


def plucked(*starts: float, seconds: float = 3.0) -> np.ndarray:
    """Return tones that rise within 60 ms and fade."""
    t = np.arange(round(seconds * RATE)) / RATE
    sound = np.zeros_like(t)
    for number, start in enumerate(starts):
        since = np.clip(t - start, 0, None)
        sound += (
            np.clip(since / 0.06, 0, 1)
            * np.exp(-8 * since)
            * np.sin(2 * np.pi * 220 * (number + 2) * since)
        )
    return (0.2 * sound).astype(np.float32)


def notes(*starts: float) -> list[Note]:
    return [Note(start, start + 0.3, 60) for start in starts]


def test_onsets_are_found_where_they_are() -> None:
    np.testing.assert_allclose(sound_onsets(plucked(*STARTS), RATE), STARTS, atol=0.006)


def test_a_sound_has_the_onsets_of_its_score_and_not_of_another() -> None:
    pytest.importorskip("mir_eval")
    sound = plucked(*STARTS)

    assert onset_score(sound, RATE, notes(*STARTS)) == 1
    assert onset_score(sound, RATE, notes(0.7, 1.2, 1.7, 2.3)) == 0
    assert onset_score(np.zeros(24000, np.float32), RATE, notes(*STARTS)) == 0


def test_without_a_note_there_is_no_measure() -> None:
    assert onset_score(plucked(0.5), RATE, []) is None
    assert onset_score(plucked(0.5), RATE, notes(9.0)) is None


def test_a_chord_is_one_onset_and_what_starts_after_the_end_is_none() -> None:
    assert score_onsets(notes(0.5, 0.51, 1.0, 7.0), 2.0).tolist() == [0.5, 1.0]
