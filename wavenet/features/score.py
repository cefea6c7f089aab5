"""Scores as files: one line `onset,offset,pitch` per note, in seconds and MIDI numbers."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from wavenet.utils.errors import DataError, printable
from wavenet.utils.files import write_text

MAX_SECONDS = 86400  # a day


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
    return [
        _note(line, f"{printable(path)}, line {number}") for number, line in enumerate(lines, 1)
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


def _note(line: str, where: str) -> Note:
    try:
        onset, offset, pitch = line.split(",")
        note = Note(float(onset), float(offset), int(pitch))
    except ValueError:
        raise DataError(
            f"{where}: must be onset and offset in seconds and a MIDI number, such as "
            f"0.5,1.25,60, got "
            f"{printable(line, 60)!r}"
        ) from None
    good = 0 <= note.onset <= note.offset <= MAX_SECONDS and 0 <= note.pitch <= 127
    if not good:
        raise DataError(
            f"{where}: expected 0 <= onset <= offset <= {MAX_SECONDS} and pitch 0 to 127, got "
            f"{printable(line, 60)!r}"
        )
    return note
