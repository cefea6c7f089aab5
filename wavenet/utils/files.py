"""Files and folders that are either whole and durable under their name, or not there.

Everything is written under a temporary name in the same folder, flushed to the disk, renamed, and
the folder flushed too: only after that has it survived a power cut.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from wavenet.utils.errors import MachineError, printable

LEFTOVER = re.compile(r"\.(.+)\.(?:tmp|old)-[0-9a-f]{8}", re.DOTALL)
LONGEST_STEM = 200  # bytes; the stem of a longer name may be another's too


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends well, it becomes `path`, whole and durable.

    An existing `path` is replaced in one step, and left as it was when the block raises. A symbolic
    link is written through: its target is replaced, the link stays.

    Raises:
        EnvironmentFault: The disk is full, or the place cannot be written.
    """
    path = Path(os.path.realpath(path))
    temporary = _name_beside(path, "tmp")
    try:
        with _disk_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; when the block ends well, it becomes `path`, whole and durable.

    An existing `path` is moved aside and removed only when the new one has its name. Whoever dies
    between those two renames leaves the old folder, whole, beside it as `.NAME.old-*`.

    Raises:
        EnvironmentFault: The disk is full, or the place cannot be written.
    """
    path = Path(os.path.realpath(path))
    temporary = _name_beside(path, "tmp")
    try:
        with _disk_faults(path):
            temporary.mkdir(parents=True)
            yield temporary
            put_directory(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_directory(folder: Path, path: Path) -> None:
    """Give `folder` the name `path` on the same disk, whole and durable, as `atomic_directory`.

    Raises:
        EnvironmentFault: The disk refuses; `folder` still has its name.
    """
    path = Path(os.path.realpath(path))
    with _disk_faults(path):
        for place, _, names in os.walk(folder):
            for name in names:
                _flush(Path(place) / name)
            _flush(Path(place))
        _put_in_place(folder, path)
        _flush(path.parent)


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Return what writers that were killed left in `folder`, the older first.

    Args:
        folder: Where they wrote; nobody else writes there, or under this name, meanwhile.
        name: Of the file or folder that they wrote; `None` for any.
    """
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _written(path) and name in (None, _written(path))]
    return sorted(found, key=lambda path: path.lstat().st_ctime_ns)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what writers that were killed left in `folder`.

    An older copy gets its name back where the writer died before the new one had it.

    Args:
        folder: Where they wrote; nobody else writes there, or under this name, meanwhile.
        name: Of the file or folder that they wrote; `None` for any.
    """
    for path in reversed(leftovers(folder, name)):
        place = folder / _written(path)
        if path.name.startswith(f".{place.name}.old-") and not os.path.lexists(place):
            os.rename(path, place)
            _flush(folder)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically and durably."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(folder: Path, name: str = "lock", *, shared: bool = False) -> Iterator[None]:
    """Hold `folder` within the block; the lock ends with the process, however that ends.

    It saves two processes from each other's work. What keeps files whole is their atomic writing,
    for there are file systems that lie about locks.

    Args:
        folder: What to hold.
        name: Of the lock in it; locks of several names know nothing of each other.
        shared: Hold it beside others who share it, against who holds it alone.

    Raises:
        EnvironmentFault: Another process holds it; its number and host are named.
    """
    with open(folder / name, "a+", encoding="utf-8") as file:
        _lock(file, folder, shared)
        if not shared:
            part = f" ({name})" if name != "lock" else ""
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}{part}")
            file.flush()
        yield


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock `path` within the block; wait for whoever holds it.

    Raises:
        OSError: The file cannot be written.
    """
    with open(path, "a", encoding="utf-8") as file:
        with contextlib.suppress(ImportError):  # Windows
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _lock(file: TextIO, folder: Path, shared: bool) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file.fileno(), kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read(200) or "another process"
        raise MachineError(
            f"{printable(folder)} is in use by {printable(holder)}: wait for it, or choose another "
            "place"
        ) from None


def _put_in_place(temporary: Path, path: Path) -> None:
    if not path.exists():
        os.rename(temporary, path)
        return
    old = _name_beside(path, "old")
    os.rename(path, old)
    try:
        os.rename(temporary, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _name_beside(path: Path, kind: str) -> Path:
    """Return a new hidden name in the same folder, short enough for any file system."""
    stem = os.fsdecode(os.fsencode(path.name)[:LONGEST_STEM])
    return path.with_name(f".{stem}.{kind}-{secrets.token_hex(4)}")


def _written(hidden: Path) -> str:
    """Return what was being written under a hidden name; nothing where that is not told by it."""
    match = LEFTOVER.fullmatch(hidden.name)
    name = match[1] if match else ""
    return name if len(os.fsencode(name)) < LONGEST_STEM else ""


def _flush(path: Path) -> None:
    """Wait until `path`, a file or a folder, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # a folder cannot be opened there, and its entries are journalled
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError(
            f"cannot write {printable(path)}: {reason}; nothing was changed. "
            "Free some space or choose another place."
        ) from error
