"""Files and folders that are either whole and durable under their name, or not there.

Everything is written under a temporary name in the same folder, flushed to the disk, renamed, and
the folder flushed too: only after that has it survived a power cut.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from wavenet.errors import EnvironmentFault, printable


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
            for folder, _, names in os.walk(temporary):
                for name in names:
                    _flush(Path(folder) / name)
                _flush(Path(folder))
            _put_in_place(temporary, path)
            _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover(folder: Path, pattern: str) -> None:
    """Put right what a process left that died while it wrote; nobody may be writing now.

    Temporary files go; an older folder that was moved aside comes back where no new one came.

    Args:
        folder: Where to look.
        pattern: Of the names that were to be, as in `step-*.ckpt`.
    """
    for old in folder.glob(f".{pattern}.old-*"):
        path = folder / old.name[1:].rpartition(".old-")[0]
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, path)
    for temporary in folder.glob(f".{pattern}.tmp-*"):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


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
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` within the block; the lock ends with the process, however that ends.

    It saves two processes from each other's work. What keeps files whole is their atomic writing,
    for there are file systems that lie about locks.

    Raises:
        EnvironmentFault: Another process holds it; its number and host are named.
    """
    with open(folder / "lock", "a+", encoding="utf-8") as file:
        _lock(file, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _lock(file: TextIO, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read(200) or "another process"
        raise EnvironmentFault(
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
    stem = os.fsdecode(os.fsencode(path.name)[:200])
    return path.with_name(f".{stem}.{kind}-{secrets.token_hex(4)}")


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
        raise EnvironmentFault(
            f"cannot write {printable(path)}: {reason}; nothing was changed. "
            "Free some space or choose another place."
        ) from error
