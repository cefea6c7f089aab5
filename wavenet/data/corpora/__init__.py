"""Data sets by name: where their recordings lie, who speaks, and how they are had.

Each corpus is one file. It lists the recordings below a root as they lie there once unpacked, and
says what is missing and where to get it; where the corpus allows it, it can fetch itself.
"""

from wavenet.data.corpora import (
    asterisk_voices,
    chorales,
    cmu_arctic,
    libritts,
    ljspeech,
    vctk,
    yesno,
)
from wavenet.data.corpora.corpus import Corpus
from wavenet.data.preparation.sources import find_sources
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import ConfigError, printable

__all__ = ["CORPORA", "Corpus", "get_corpus"]

FOLDER = Corpus(
    name="folder",
    about="Any folder of recordings of yours, nested as it likes, speakers not said",
    find=find_sources,
)
CORPORA = {
    corpus.name: corpus
    for corpus in (
        FOLDER,
        asterisk_voices.CORPUS,
        chorales.CORPUS,
        cmu_arctic.CORPUS,
        libritts.CORPUS,
        ljspeech.CORPUS,
        vctk.CORPUS,
        yesno.CORPUS,
    )
}


def get_corpus(name: str) -> Corpus:
    """Return the corpus `name`.

    Raises:
        ConfigError: There is none; the nearest name is said.
    """
    if name not in CORPORA:
        known = nearest(name, CORPORA)
        raise ConfigError(f"data.corpus {printable(name, 60)!r} is not known{known}")
    return CORPORA[name]
