"""VCTK: 110 speakers of English in many accents, one folder of recordings each.

Version 0.92 has each sentence from two microphones; the second failed for p280 and p315. Version
0.80 has one file per sentence; its p376_295 is not a WAV file.
"""

import re
from collections.abc import Collection
from pathlib import Path

from wavenet.data.corpora.corpus import Archive, Corpus, download, folders_in, home_of, lines_of
from wavenet.data.preparation.sources import Source, SourceListing, list_files

FOLDERS = ("VCTK-Corpus-0.92", "VCTK-Corpus")
TRIMMED, UNTRIMMED = "wav48_silence_trimmed", "wav48"  # audio folders of versions 0.92 and 0.80
ARCHIVE = Archive(  # it has no top folder
    "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
    "f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
)


def find(root: Path) -> SourceListing:
    """List one recording per sentence; every known speaker must have recordings."""
    home = home_of(root, *FOLDERS)
    audio = home_of(home, TRIMMED, UNTRIMMED)
    if audio == home:
        raise CORPUS.absent(
            home,
            f"{TRIMMED}/SPEAKER/*_mic1.flac or {UNTRIMMED}/SPEAKER/*.wav, in it or below it in "
            f"{'/ or '.join(FOLDERS)}/",
        )
    files = list_files(root, home)
    paths = {source.path for source in files.sources}
    found = files.with_speakers(lambda source: _speaker(source, audio, paths))
    silent = _speakers(home, audio) - {source.speaker for source in found.sources}
    if silent:
        text = f"speakers of whom {audio.name}/ has no recording: {len(silent)}"
        raise CORPUS.incomplete(home, text, found, silent)
    if not found.sources:
        raise CORPUS.incomplete(home, f"{audio.name}/ has no recording", found)
    return found


def _speaker(source: Source, audio: Path, paths: Collection[Path]) -> str | None:
    """Return the speaker; `None` for other files and second recordings of a sentence."""
    path = source.path
    if path.parent.parent != audio:
        return None
    if audio.name == TRIMMED:
        sentence, _, microphone = path.stem.rpartition("_")
        first = path.with_name(f"{sentence}_mic1{path.suffix}")
        if microphone not in ("mic1", "mic2") or (microphone == "mic2" and first in paths):
            return None
    return path.parent.name


def _speakers(home: Path, audio: Path) -> set[str]:
    """Return the speakers with a folder of audio or texts, or a line in `speaker-info.txt`."""
    speakers = {*folders_in(home / "txt"), *folders_in(audio)}
    about = home / "speaker-info.txt"
    for line in lines_of(about) if about.is_file() else ():
        if number := re.match(r"p?(\d+)\s", line):  # version 0.80 leaves out the p
            speakers.add(f"p{number[1]}")
    return speakers


CORPUS = Corpus(
    name="vctk",
    about=(
        "VCTK 0.92: 110 speakers of English, some 400 sentences each, at 48 kHz, 10.9 GB to "
        "download, under CC BY 4.0, from https://datashare.ed.ac.uk/handle/10283/3443"
    ),
    find=find,
    fetch=lambda root: download(root, [ARCHIVE]),
)
