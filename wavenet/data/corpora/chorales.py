"""Chorales by J. S. Bach on a sampled piano, each with its score, rendered locally.

The scores come from music21. FluidSynth plays each piece at a different tempo, so that no two
pieces share a time grid.
"""

import contextlib
import dataclasses
import hashlib
import logging
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from wavenet.data.corpora.corpus import Corpus
from wavenet.data.preparation.sources import SourceListing, find_sources
from wavenet.features.score import Note, write_notes
from wavenet.utils.cores import available_cores
from wavenet.utils.errors import DataError, MachineError, printable, require
from wavenet.utils.files import atomic_directory

log = logging.getLogger("wavenet")
PIECES = 60
RATE = 16000
TEMPI = (66, 104)  # quarters a minute
TAIL_SECONDS = 1.5  # after the last note
SOUNDFONTS = (
    Path("/usr/share/sounds/sf3/FluidR3Mono_GM.sf3"),
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/soundfonts/FluidR3_GM.sf2"),
)
ABOUT = (
    f"{PIECES} chorales by J. S. Bach (music21's corpus, https://www.music21.org; the encodings "
    "are for use, not for passing on) on a sampled piano (FluidR3, MIT license), about 40 minutes "
    "with their scores"
)


def find(root: Path) -> SourceListing:
    """Return the pieces, each with its score."""
    if not root.is_dir():
        raise DataError(
            f"{printable(root)} does not exist: data.download=true creates it, with pip install "
            "'torch-wavenet[corpora]' and apt install fluidsynth fluidr3mono-gm-soundfont"
        )
    found = find_sources(root)
    scores = {source.name: source.path.with_suffix(".csv") for source in found.sources}
    missing = [name for name, score in scores.items() if not score.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} recordings in {printable(root)} have no score, such as "
            f"{printable(missing[0])}: expected a .csv file of the same name with one line "
            "onset,offset,pitch per note"
        )
    sources = tuple(
        dataclasses.replace(source, notes=scores[source.name]) for source in found.sources
    )
    others = Counter(dict(found.others)) - Counter(csv=len(sources))
    return dataclasses.replace(found, sources=sources, others=tuple(others.items()))


def fetch(root: Path, pieces: int = PIECES) -> None:
    """Play pieces into `root`, one FLAC file and one score each, atomically.

    Args:
        root: A new folder.
        pieces: Number of pieces, of about 400.

    Raises:
        MachineError: A program, a package or the sounds are not installed.
    """
    corpus: Any = require("music21.corpus", "corpora")
    soundfont = _soundfont()
    paths = [Path(path) for path in corpus.getComposer("bach") if "bwv" in Path(path).name]
    chosen = sorted(paths, key=lambda path: hashlib.sha256(path.stem.encode()).hexdigest())
    log.info("rendering %d pieces, which takes some minutes", pieces)
    with atomic_directory(root) as folder, contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(available_cores())
        stack.callback(pool.shutdown, cancel_futures=True)  # an error ends the pending work
        played = []
        for path in chosen[:pieces]:
            name = path.stem.replace(".", "-")
            notes = _notes(corpus.parse(path), tempo_of(name))
            write_notes(folder / f"{name}.csv", notes)
            played.append(pool.submit(_play, notes, folder / name, soundfont))
        for number, piece in enumerate(played, start=1):
            piece.result()
            if number % 10 == 0:
                log.info("rendered %d of %d pieces", number, len(played))


def tempo_of(name: str) -> float:
    """Return a piece's tempo, in quarters a minute."""
    share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
    return TEMPI[0] + share * (TEMPI[1] - TEMPI[0])


def _notes(score: Any, tempo: float) -> list[Note]:
    seconds = 60 / tempo
    return sorted(
        Note(
            float(note.offset) * seconds,
            float(note.offset + note.duration.quarterLength) * seconds,
            int(pitch.midi),
        )
        for note in score.stripTies().flatten().notes
        for pitch in note.pitches
        if note.duration.quarterLength > 0
    )


def _play(notes: Sequence[Note], path: Path, soundfont: Path) -> None:
    """Write notes on a piano as `path.flac`."""
    soundfile: Any = require("soundfile", "generate")
    midi, wav = path.with_suffix(".mid"), path.with_suffix(".wav")
    midi.write_bytes(midi_file(notes))
    quiet = ["-ni", "-q", "-F", str(wav), "-r", str(RATE), "-g", "0.6", "-R", "0", "-C", "0"]
    subprocess.run(
        ["fluidsynth", *quiet, str(soundfont), str(midi)], check=True, capture_output=True
    )
    stereo, _ = soundfile.read(wav, dtype="float32", always_2d=True)
    wav.unlink()
    midi.unlink()
    length = round((max(note.offset for note in notes) + TAIL_SECONDS) * RATE)
    mono = stereo.mean(axis=1)[:length]
    soundfile.write(path.with_suffix(".flac"), mono, RATE, subtype="PCM_16")


def midi_file(notes: Sequence[Note]) -> bytes:
    """Return notes as a standard MIDI file of one track, in milliseconds, on the grand piano."""
    events = sorted(
        [(round(1000 * note.onset), 1, bytes([0x90, note.pitch, 80])) for note in notes]
        + [(round(1000 * note.offset), 0, bytes([0x80, note.pitch, 0])) for note in notes]
    )
    # 500 ticks per quarter of half a second: one tick is a millisecond
    track, now = bytearray(b"\x00\xff\x51\x03\x07\xa1\x20\x00\xc0\x00"), 0
    for when, _, message in events:
        track += _variable(when - now) + message
        now = when
    track += b"\x00\xff\x2f\x00"
    header = b"MThd\x00\x00\x00\x06\x00\x00\x00\x01" + (500).to_bytes(2, "big")
    return header + b"MTrk" + len(track).to_bytes(4, "big") + bytes(track)


def _variable(number: int) -> bytes:
    """Return a number as a MIDI delta time: seven bits per byte, the highest first."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))


def _soundfont() -> Path:
    if shutil.which("fluidsynth") is None:
        raise MachineError(
            "fluidsynth is not installed: apt install fluidsynth fluidr3mono-gm-soundfont"
        )
    for path in SOUNDFONTS:
        if path.is_file():
            return path
    raise MachineError("FluidR3 is not installed: apt install fluidr3mono-gm-soundfont")


CORPUS = Corpus(name="chorales", about=ABOUT, find=find, fetch=fetch)
