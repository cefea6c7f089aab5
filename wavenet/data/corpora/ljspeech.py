"""LJ Speech: one reader of English, the clips in `wavs/` and their texts in `metadata.csv`."""

from pathlib import Path

from wavenet.data.corpora.corpus import Archive, Corpus, download, home_of, lines_of
from wavenet.data.preparation.sources import SourceListing, list_files

FOLDER = "LJSpeech-1.1"
SPEAKER = "LJ"
ARCHIVE = Archive(
    "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
    "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
)


def find(root: Path) -> SourceListing:
    """List the recordings; every one named in `metadata.csv` must exist."""
    home = home_of(root, FOLDER)
    metadata, wavs = home / "metadata.csv", home / "wavs"
    if not metadata.is_file() or not wavs.is_dir():
        raise CORPUS.absent(home, f"metadata.csv and wavs/*.wav, in it or in {FOLDER}/ below it")
    found = list_files(root, home).with_speakers(
        lambda source: SPEAKER if source.path.parent == wavs and source.suffix == "wav" else None
    )
    named = {line.split("|")[0].strip() for line in lines_of(metadata)} - {""}
    missing = named - {source.path.stem for source in found.sources}
    if missing:
        text = f"of {len(named)} recordings in metadata.csv, wavs/ lacks {len(missing)}"
        raise CORPUS.incomplete(home, text, found, missing)
    if not named:
        raise CORPUS.incomplete(home, "metadata.csv names no recording", found)
    return found


CORPUS = Corpus(
    name="ljspeech",
    about=(
        "LJ Speech 1.1: one reader of English, 24 hours in 13,100 clips at 22.05 kHz, 2.7 GB to "
        "download, in the public domain, from https://keithito.com/LJ-Speech-Dataset/"
    ),
    find=find,
    fetch=lambda root: download(root, [ARCHIVE]),
)
