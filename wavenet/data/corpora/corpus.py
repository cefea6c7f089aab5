"""A published dataset: its name, recordings, speakers and download; how its folders are read."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from wavenet.data.preparation.sources import SourceListing
from wavenet.utils.errors import DataError, MachineError, printable

MAX_NAMES = 6  # in a message


@dataclass(frozen=True)
class Corpus:
    """A corpus.

    Attributes:
        name: As in `data.corpus=NAME`.
        about: One line: content, size, license and source.
        find: Return the recordings below a root, each with its speaker and its score if it has one;
            raises `DataError` if something is missing, with the source.
        fetch: Downloads or renders the recordings into a root that does not exist yet; absent if
            the user has to.
    """

    name: str
    about: str
    find: Callable[[Path], SourceListing]
    fetch: Callable[[Path], None] | None = None

    def absent(self, folder: Path, wanted: str) -> DataError:
        """Return the error that `folder` holds no part of this corpus."""
        return DataError(
            f"{printable(folder)} does not hold the corpus {self.name}: found {_seen_in(folder)}; "
            f"wanted {wanted}. {self._source_text}"
        )

    def incomplete(self, folder: Path, missing: str, found: SourceListing) -> DataError:
        """Return the error that recordings of this corpus are missing in `folder`."""
        linked = found.linked_folders
        note = f"; linked folders there, which are not followed: {linked}" if linked else ""
        return DataError(
            f"{printable(folder)} does not hold all of the corpus {self.name}: {missing}{note}. "
            f"Unpack it again, or use what there is, without speakers, with data.corpus=folder. "
            f"{self._source_text}"
        )

    @property
    def _source_text(self) -> str:
        download = " data.download=true downloads it to a new data.root." if self.fetch else ""
        return f"{self.about}.{download}"


def home_of(root: Path, *names: str) -> Path:
    """Return the first existing folder of `names` in `root`, or `root` if there is none."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def folders_in(folder: Path) -> list[str]:
    """Return the names of the visible folders in `folder`; none if it is not a folder."""
    if not folder.is_dir():
        return []
    return [name for name in _names_in(folder) if name[0] != "." and (folder / name).is_dir()]


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file, without their ends; bytes that are not UTF-8 become �."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror}") from error


def listed(names: Collection[str]) -> str:
    """Return the first `MAX_NAMES` of the sorted names, and the number of the others."""
    shown = ", ".join(printable(name, 60) for name in sorted(names)[:MAX_NAMES])
    more = len(names) - MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise MachineError(
            f"cannot list {printable(folder)}: {error.strerror}; allow yourself to read it"
        ) from error


def _seen_in(folder: Path) -> str:
    """Return what is in `folder`, for a message."""
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file, not a folder"
    return listed(_names_in(folder)) or "an empty folder"
