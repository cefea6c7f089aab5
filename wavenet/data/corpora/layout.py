"""Contents of a folder, for finding a corpus and for messages."""

from collections.abc import Collection
from pathlib import Path

from wavenet.utils.errors import DataError, MachineError, printable

MAX_NAMES = 6  # in a message


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


def seen_in(folder: Path) -> str:
    """Return what is in `folder`, for a message."""
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file, not a folder"
    return listed(_names_in(folder)) or "an empty folder"


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
