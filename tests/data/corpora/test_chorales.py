import importlib.util
import shutil
from pathlib import Path

import pytest
import soundfile

from wavenet.data.corpora.chorales import RATE, TEMPI, fetch, find, midi_file, tempo_of
from wavenet.evaluation.metrics import onset_f_measure
from wavenet.features.score import Note, read_notes
from wavenet.utils.errors import DataError

NOTES = [Note(0.0, 0.5, 60), Note(0.0, 1.0, 64), Note(0.75, 300.0, 67)]


def events(midi: bytes) -> list[tuple[float, int, int]]:
    """Read a file back: seconds, status byte and pitch of each note event."""
    assert midi[:4] == b"MThd"
    division = int.from_bytes(midi[12:14], "big")
    body, now, found = midi[22:], 0, []
    index = 0
    while index < len(body):
        delta = 0
        while True:
            byte = body[index]
            index += 1
            delta = delta << 7 | byte & 0x7F
            if byte < 0x80:
                break
        now += delta
        status = body[index]
        if status == 0xFF:
            index += 3 + body[index + 2]
        elif status == 0xC0:
            index += 2
        else:
            found.append((0.5 * now / division, status, body[index + 1]))
            index += 3
    return found


def test_midi_file_gives_each_note_to_the_millisecond() -> None:
    midi = midi_file(NOTES)

    started = [(when, pitch) for when, status, pitch in events(midi) if status == 0x90]
    ended = [(when, pitch) for when, status, pitch in events(midi) if status == 0x80]
    assert started == [(note.onset, note.pitch) for note in NOTES]
    assert sorted(ended) == sorted((note.offset, note.pitch) for note in NOTES)
    assert int.from_bytes(midi[18:22], "big") == len(midi) - 22


def test_each_piece_has_a_tempo_of_its_own() -> None:
    tempi = {tempo_of(f"bwv{number}") for number in range(50)}

    assert len(tempi) == 50
    assert TEMPI[0] <= min(tempi) < max(tempi) <= TEMPI[1]


@pytest.mark.slow
def test_rendered_piece_sounds_when_its_score_does(tmp_path: Path) -> None:
    if not (shutil.which("fluidsynth") and importlib.util.find_spec("music21")):
        pytest.skip("no fluidsynth or no music21 here")
    pytest.importorskip("mir_eval")
    fetch(tmp_path / "root", pieces=2)

    sources = find(tmp_path / "root").sources

    assert len(sources) == 2
    for source in sources:
        assert source.notes is not None
        samples, rate = soundfile.read(source.path, dtype="float32")
        assert rate == RATE
        score = onset_f_measure(samples, rate, read_notes(source.notes))
        assert score is not None
        assert score > 0.9
    assert {path.suffix for path in (tmp_path / "root").iterdir()} == {".csv", ".flac"}


def test_a_recording_without_a_score_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.flac").touch()

    with pytest.raises(DataError, match=r"no score, such as a\.flac"):
        find(tmp_path)
