"""LibriTTS: readers of English books, in parts such as `train-clean-100/SPEAKER/CHAPTER/*.wav`.

The texts of a chapter, `*.trans.tsv`, have one line per recording of the corpus.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from wavenet.data.corpora.corpus import Archive, Corpus, download, folders_in, home_of, lines_of
from wavenet.data.preparation.sources import Source, SourceListing, list_files

FOLDER = "LibriTTS"
PARTS = (
    *("dev-clean", "dev-other", "test-clean", "test-other"),
    *("train-clean-100", "train-clean-360", "train-other-500"),
)
ARCHIVE = Archive(
    "http://www.openslr.org/resources/60/train-clean-100.tar.gz",
    "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b",
)


def find(root: Path) -> SourceListing:
    """List the recordings of the parts that exist; each part must be complete."""
    home = home_of(root, FOLDER)
    parts = [home / name for name in folders_in(home) if name in PARTS]
    if home.resolve().name in PARTS and home.is_dir():
        parts = [home]
    found = list_files(root, *parts).with_speakers(lambda source: _speaker(source, parts))
    there = {source.path for source in found.sources}
    missing = [name for part in parts for name in _missing(part, there)]
    if missing:
        text = f"recordings missing: {len(missing)}"
        raise CORPUS.incomplete(home, text, found, missing)
    if not found.sources:
        wanted = f"PART/SPEAKER/CHAPTER/*.wav, in it or in {FOLDER}/ below it, PART one of "
        raise CORPUS.absent(home, wanted + ", ".join(PARTS))
    return found


def _speaker(source: Source, parts: list[Path]) -> str | None:
    speaker = source.path.parent.parent
    is_speech = source.suffix == "wav" and speaker.parent in parts and speaker.name.isdecimal()
    return speaker.name if is_speech else None


def _missing(part: Path, there: set[Path]) -> Iterator[str]:
    """Yield paths that are not `there`: recordings named by a text, and chapters without any."""
    full = {path.parent for path in there}
    for speaker in filter(str.isdecimal, folders_in(part)):
        for chapter in folders_in(part / speaker) or [""]:
            folder = part / speaker / chapter
            texts = folder / f"{speaker}_{chapter}.trans.tsv"
            named = lines_of(texts) if texts.is_file() else []
            names = [line.split("\t")[0] for line in named if re.match(r"\d+(_\d+){3}\t", line)]
            missing = [name for name in names if folder / f"{name}.wav" not in there]
            if folder not in full and not missing:
                missing = ["*"]
            for name in missing:
                yield (folder / f"{name}.wav").relative_to(part.parent).as_posix()


CORPUS = Corpus(
    name="libritts",
    about=(
        "LibriTTS: 2,456 readers of English, 585 hours at 24 kHz in seven parts, 80 GB in all; "
        "data.download fetches train-clean-100, 8 GB; under CC BY 4.0, "
        "from https://www.openslr.org/60/"
    ),
    find=find,
    fetch=lambda root: download(root, [ARCHIVE]),
)
