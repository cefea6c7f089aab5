"""Published datasets by name: layout of their folders, speakers, and download.

Each corpus is one file. It lists the recordings in an unpacked folder, reports missing ones with
their source, and downloads itself where its license allows it.
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
    about="Any folder of recordings, nested or not, without speakers",
    find=find_sources,
)
MODULES = (asterisk_voices, chorales, cmu_arctic, libritts, ljspeech, vctk, yesno)
CORPORA: dict[str, Corpus] = {
    corpus.name: corpus for corpus in (FOLDER, *(module.CORPUS for module in MODULES))
}


def get_corpus(name: str) -> Corpus:
    """Return the corpus `name`.

    Raises:
        ConfigError: The name is unknown; the message suggests the nearest.
    """
    if name not in CORPORA:
        known = nearest(name, CORPORA)
        raise ConfigError(f"data.corpus {printable(name, 60)!r} is unknown{known}")
    return CORPORA[name]
