"""Five studio voices in five languages: the telephone prompts of Asterisk, 16 kHz.

Debian packages them as G.722, which libsndfile does not read: `fetch` decodes them to FLAC.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from wavenet.data.corpora.corpus import Corpus
from wavenet.data.preparation.sources import SourceListing, find_sources
from wavenet.utils.errors import DataError, MachineError, printable, require
from wavenet.utils.files import atomic_directory

log = logging.getLogger("wavenet")
INSTALLED = Path("/usr/share/asterisk/sounds")
VOICES = {  # folder: language of the package
    "en_US_f_Allison": "en",
    "es_MX_f_Allison": "es",
    "fr_CA_f_June": "fr",
    "it_IT_m_Carlo": "it",
    "ru_RU_f_IvrvoiceRU": "ru",
}
NO_SPEECH = ("silence/", "beep", "tone")  # in a name
RATE = 16000
ABOUT = (
    "Asterisk core sounds, 126 minutes of five voices (four people) in en, es, fr "
    "(CC BY-SA 3.0), it and ru (CC BY 3.0): apt install "
    + " ".join(f"asterisk-core-sounds-{language}-g722" for language in VOICES.values())
    + ", or https://downloads.asterisk.org/pub/telephony/sounds/"
)


def find(root: Path) -> SourceListing:
    """Return the prompts of all voices; the first folder is the voice."""
    if not root.is_dir():
        raise DataError(
            f"{printable(root)} does not exist: data.download=true creates it from the packages of "
            f"{ABOUT}"
        )
    missing = [voice for voice in VOICES if not (root / voice).is_dir()]
    if missing:
        raise DataError(
            f"{printable(root)} lacks {', '.join(missing)}: remove it, and data.download=true "
            "creates it again"
        )
    return find_sources(root).with_speakers(
        lambda source: top if (top := source.name.partition("/")[0]) in VOICES else None
    )


def fetch(root: Path, installed: Path = INSTALLED) -> None:
    """Decode the G.722 prompts below `installed` into FLAC files below `root`, atomically.

    Raises:
        MachineError: A voice or the decoder is not installed.
    """
    missing = [
        name for voice, name in VOICES.items() if not any((installed / voice).glob("*.g722"))
    ]
    if missing:
        packages = " ".join(f"asterisk-core-sounds-{name}-g722" for name in missing)
        raise MachineError(f"{printable(installed)} lacks voices: apt install {packages}")
    decoder: Any = require("G722", "corpora").G722
    soundfile: Any = require("soundfile", "generate")
    with atomic_directory(root) as folder:
        for voice in VOICES:
            for path in sorted((installed / voice).rglob("*.g722")):
                name = path.relative_to(installed).as_posix()
                if any(word in name for word in NO_SPEECH):
                    continue
                if not path.stat().st_size:
                    log.info("skipped, empty in the package: %s", name)
                    continue
                samples = np.asarray(decoder(RATE, 64000).decode(path.read_bytes()), np.int16)
                target = (folder / name).with_suffix(".flac")
                target.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(target, samples, RATE, subtype="PCM_16")
        (folder / "ORIGIN.txt").write_text(ABOUT + "\n", encoding="utf-8")


CORPUS = Corpus(name="asterisk_voices", about=ABOUT, find=find, fetch=fetch)
