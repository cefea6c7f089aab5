"""Data sets by name: where their recordings lie, who speaks, and how they are had.

Each corpus is one file. It lists the recordings below a root as they lie there once unpacked, and
says what is missing and where to get it; where the corpus allows it, it can fetch itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wavenet.data.sources import Found


@dataclass(frozen=True)
class Corpus:
    """A data set.

    Attributes:
        name: As in `data.corpus=NAME`.
        about: One line: what is in it, how large, under which licence, where to get it.
        find: Return the recordings below a root, each with its speaker and its score if it has one;
            raises `DataError` where something is missing, and says where to get it.
        fetch: Download or make the recordings into a root, which does not exist yet; absent where
            the user must do it.
    """

    name: str
    about: str
    find: Callable[[Path], Found]
    fetch: Callable[[Path], None] | None = None
