import numpy as np
import pytest

from wavenet.evaluation.metrics import detect_onsets, onset_f_measure, score_onsets
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


def test_detected_onsets_match_the_plucked_tones() -> None:
    np.testing.assert_allclose(detect_onsets(plucked(*STARTS), RATE), STARTS, atol=0.006)


def test_the_f_measure_is_one_for_the_score_and_zero_for_another() -> None:
    pytest.importorskip("mir_eval")
    sound = plucked(*STARTS)

    assert onset_f_measure(sound, RATE, notes(*STARTS)) == 1
    assert onset_f_measure(sound, RATE, notes(0.7, 1.2, 1.7, 2.3)) == 0
    assert onset_f_measure(np.zeros(24000, np.float32), RATE, notes(*STARTS)) == 0


def test_without_notes_the_f_measure_is_undefined() -> None:
    assert onset_f_measure(plucked(0.5), RATE, []) is None
    assert onset_f_measure(plucked(0.5), RATE, notes(9.0)) is None


def test_a_chord_is_one_onset_and_later_notes_are_ignored() -> None:
    assert score_onsets(notes(0.5, 0.51, 1.0, 7.0), 2.0).tolist() == [0.5, 1.0]
