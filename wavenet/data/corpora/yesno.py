"""yesno: one speaker of Hebrew, eight times yes or no per recording; the file name lists them."""

import re
from pathlib import Path

from wavenet.data.corpora.corpus import Archive, Corpus, download, home_of
from wavenet.data.preparation.sources import SourceListing, list_files

FOLDER = "waves_yesno"
RECORDINGS = 60
NAME = re.compile(r"[01](_[01]){7}\.wav")
ARCHIVE = Archive(
    "http://www.openslr.org/resources/1/waves_yesno.tar.gz",
    "c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73",
)


def find(root: Path) -> SourceListing:
    """List the recordings, which must be 60."""
    home = home_of(root, FOLDER)
    found = list_files(root, home).with_speakers(
        lambda source: "yesno" if NAME.fullmatch(source.name.rpartition("/")[2]) else None
    )
    if not found.sources:
        wanted = f"{RECORDINGS} names such as 0_0_1_0_1_1_0_1.wav, in it or in {FOLDER}/ below it"
        raise CORPUS.absent(home, wanted)
    if len(found.sources) != RECORDINGS:
        text = f"found {len(found.sources)} recordings, wanted {RECORDINGS}"
        raise CORPUS.incomplete(home, text, found)
    return found


CORPUS = Corpus(
    name="yesno",
    about=(
        "yesno: one speaker of Hebrew, 60 recordings at 8 kHz, 5 MB to download, under the "
        "license stated at https://www.openslr.org/1/"
    ),
    find=find,
    fetch=lambda root: download(root, [ARCHIVE]),
)
