"""Whether notes start where the score has them: F-measure of onsets, within 50 ms.

Onsets of the sound are found by librosa (spectral flux), and matched by mir_eval (Raffel et al.
2014).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.features.librosa_lock import compiled_librosa
from wavenet.features.score import Note
from wavenet.utils.errors import MachineError, require

WINDOW_SECONDS = 0.05
HOP_SECONDS = 0.01
CHORD_SECONDS = 0.03  # notes that start as close together are one onset


def onset_score(
    waveform: NDArray[np.float32], sample_rate: int, notes: Sequence[Note]
) -> float | None:
    """Return the F-measure of a sound's onsets against a score's, 0 to 1, which is best.

    Args:
        waveform: `(T,)`.
        sample_rate: In Hz.
        notes: The score; what starts after the sound's end is left out.

    Returns:
        The measure; absent without the package, or where the score is empty.
    """
    try:
        package: Any = require("mir_eval.onset", "evaluate")
    except MachineError:
        return None
    wanted = score_onsets(notes, len(waveform) / sample_rate)
    if not len(wanted):
        return None
    found = sound_onsets(waveform, sample_rate)
    if not len(found):
        return 0.0
    return float(package.f_measure(wanted, found, window=WINDOW_SECONDS)[0])


def score_onsets(notes: Sequence[Note], seconds: float) -> NDArray[np.float64]:
    """Return where the notes of the first `seconds` start, a chord once, in order."""
    onsets: list[float] = []
    for onset in sorted(note.onset for note in notes if note.onset < seconds):
        if not onsets or onset - onsets[-1] > CHORD_SECONDS:
            onsets.append(onset)
    return np.array(onsets)


def sound_onsets(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Return where something starts to sound, in seconds, in order.

    The flux peaks late, some 30 ms on a piano: each peak is traced back to where it rises from.
    """
    onsets: NDArray[np.float64] = compiled_librosa().onset.onset_detect(
        y=waveform,
        sr=sample_rate,
        hop_length=round(HOP_SECONDS * sample_rate),
        units="time",
        backtrack=True,
    )
    return onsets
