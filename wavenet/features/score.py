"""Scores as files and as frames (piano rolls).

A file has one line `onset,offset,pitch` per note, in seconds and MIDI numbers; these names may
stand in its first line. A frame has, for
each pitch, where its notes start and where they sound.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.config import ScoreConfig
from wavenet.utils.errors import DataError, printable
from wavenet.utils.files import write_text

MAX_SECONDS = 86400  # a day
FADE_SECONDS = 0.1  # after which an onset's mark has fallen to 1/e


class Note(NamedTuple):
    """A note of a score.

    Attributes:
        onset: Where it starts, in seconds.
        offset: Where it ends, in seconds.
        pitch: MIDI number; 60 is the middle C.
    """

    onset: float
    offset: float
    pitch: int


def read_notes(path: Path) -> list[Note]:
    """Return the notes of a score, in the order of its lines.

    Raises:
        DataError: A line is not a note.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(path)}: cannot be read: {printable(error)}") from None
    has_names = bool(lines) and lines[0].replace(" ", "") == ",".join(Note._fields)
    return [
        _note(line, f"{printable(path)}, line {number}")
        for number, line in enumerate(lines[has_names:], 1 + has_names)
    ]


def write_notes(path: Path, notes: Iterable[Note]) -> None:
    """Write a score, atomically."""
    lines = [f"{note.onset:.6f},{note.offset:.6f},{note.pitch}\n" for note in notes]
    write_text(path, "".join(lines))


def cut_notes(notes: Iterable[Note], start: float, stop: float) -> list[Note]:
    """Return the notes from second `start` to `stop`, with times relative to `start`."""
    return [
        Note(max(note.onset, start) - start, min(note.offset, stop) - start, note.pitch)
        for note in notes
        if note.onset < stop and note.offset > start
    ]


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


def _note(line: str, where: str) -> Note:
    found = printable(line, 60)
    try:
        onset, offset, pitch = line.split(",")
        note = Note(float(onset), float(offset), int(pitch))
    except ValueError:
        raise DataError(
            f"{where}: must be onset and offset in seconds and a MIDI number, such as "
            f"0.5,1.25,60, got {found!r}"
        ) from None
    if not (0 <= note.onset <= note.offset <= MAX_SECONDS and 0 <= note.pitch <= 127):
        raise DataError(
            f"{where}: expected 0 <= onset <= offset <= {MAX_SECONDS} and pitch 0 to 127, got "
            f"{found!r}"
        )
    return note
