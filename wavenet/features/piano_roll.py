"""A score as frames: for each pitch, where its notes start and where they sound."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from wavenet.config import ScoreConfig
from wavenet.features.score import Note
from wavenet.utils.errors import DataError, printable

FADE_SECONDS = 0.1  # after which an onset's mark has fallen to 1/e


def check_pitches(notes: Iterable[Note], config: ScoreConfig, where: str = "score") -> None:
    """Raise a `DataError` that names `where` if a note is outside of the pitches."""
    for note in notes:
        if not config.midi_min <= note.pitch <= config.midi_max:
            raise DataError(
                f"{printable(where)}: pitch {note.pitch} is outside of {config.midi_min} to "
                f"{config.midi_max}, the range that audio.score had in training"
            )


def piano_roll(
    notes: Sequence[Note], start_frame: int, frames: int, config: ScoreConfig
) -> NDArray[np.float32]:
    """Return the frames from `start_frame` on, `(2 * pitches, frames)`.

    The first half marks onsets: 1 in the frame in which a note starts, fading while it sounds. The
    second half is 1 where a note sounds.

    Args:
        notes: The score, times counted from frame 0.
        start_frame: First frame.
        frames: Number of frames.
        config: Pitches and hop.

    Raises:
        DataError: A note is outside of the pitches.
    """
    check_pitches(notes, config)
    rolls = np.zeros((2, config.pitches, frames), np.float32)
    seconds = config.hop_length / config.sample_rate
    for note in notes:
        row = note.pitch - config.midi_min
        onset, offset = (round(time * config.sample_rate) for time in note[:2])  # in samples
        first = onset // config.hop_length - start_frame
        last = max(first + 1, -(-offset // config.hop_length) - start_frame)
        shown = np.arange(max(first, 0), min(last, frames))
        if len(shown):
            age = (shown - first) * seconds
            rolls[0, row, shown] = np.maximum(rolls[0, row, shown], np.exp(-age / FADE_SECONDS))
            rolls[1, row, shown] = 1.0
    return rolls.reshape(2 * config.pitches, frames)
