"""Atomic, durable files and folders, and locks.

Everything is written under a temporary name in the same folder, flushed to the disk, renamed, and
the folder is flushed too: after that it survives a power cut.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from wavenet.utils.errors import ConfigError, MachineError, printable

LEFTOVER_NAME = re.compile(r"\.(.+)\.(?:tmp|old)-[0-9a-f]{8}", re.DOTALL)
ABANDONED_SECONDS = 3600
MAX_STEM_BYTES = 200  # longer stems are cut, so two files may have the same one


@contextlib.contextmanager
def atomic_file(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` when the block succeeds.

    An existing `path` is replaced in one step, and unchanged if the block raises; folders that were
    made for it go again. If `path` is a symbolic link, its target is replaced and the link stays.

    Args:
        path: The file.
        replace: Whether an existing file, also one that appeared meanwhile, is replaced.

    Raises:
        ConfigError: `path` exists, and `replace` is false.
        MachineError: The disk is full, the folder cannot be written, or `path` is a device or pipe,
            which no file replaces.
    """
    refuse_special(path)
    path = Path(os.path.realpath(path))
    temporary = _temporary_name(path, "tmp")
    new_folders: list[Path] = []
    try:
        with _as_machine_error(path):
            new_folders += [folder for folder in path.parents if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _flush(temporary)
            if replace:
                os.replace(temporary, path)
            else:
                _rename_to_new(temporary, path)
            _flush(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        with contextlib.suppress(OSError):  # one that holds something stays
            for folder in new_folders:
                folder.rmdir()


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` when the block succeeds.

    An existing `path` is renamed to `.NAME.old-*` first and removed last. A process that is killed
    between the two renames leaves the old folder there; `remove_leftovers` renames it back.

    Raises:
        MachineError: The disk is full, the folder cannot be written, or `path` is a device or pipe.
    """
    refuse_special(path)
    path = Path(os.path.realpath(path))
    temporary = _temporary_name(path, "tmp")
    try:
        with _as_machine_error(path):
            temporary.mkdir(parents=True)
            yield temporary
            put_directory(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_directory(folder: Path, path: Path) -> None:
    """Rename `folder` to `path` on the same disk, as durably as `atomic_directory`.

    Raises:
        MachineError: The disk is full or read-only, or `path` is a device or pipe; `folder` still
            has its name.
    """
    refuse_special(path)
    path = Path(os.path.realpath(path))
    with _as_machine_error(path):
        for place, _, names in os.walk(folder):
            for name in names:
                _flush(Path(place) / name)
            _flush(Path(place))
        _put_in_place(folder, path)
        _flush(path.parent)


def is_special(path: Path) -> bool:
    """Return whether a path, or what it links to, exists and is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def refuse_special(path: Path) -> None:
    """Raise a `MachineError` if a path is a device, pipe or socket, or a link to one."""
    if is_special(path):
        raise MachineError(
            f"{printable(path)} is a device, pipe or socket, or a link to one, which is never "
            "replaced by a file: choose another output"
        )


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Return what `remove_leftovers` would remove or rename, the older first."""
    if not folder.is_dir():
        return []
    found = [
        path for path in folder.iterdir() if _final_name(path) and name in (None, _final_name(path))
    ]
    return sorted(found, key=lambda path: path.lstat().st_ctime_ns)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files and folders of killed writers in `folder`.

    A replaced folder is renamed back if its writer was killed before the new one had its name.

    Args:
        folder: Where they wrote; no other process may write there, or under this name, meanwhile.
        name: Name of the file or folder that they wrote; `None` for any.
    """
    for path in reversed(leftovers(folder, name)):
        place = folder / _final_name(path)
        if path.name.startswith(f".{place.name}.old-") and not os.path.lexists(place):
            os.rename(path, place)
            _flush(folder)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_abandoned(outputs: Iterable[Path]) -> list[Path]:
    """Remove what killed writers of these files left, unchanged for an hour; return what it was.

    A process that still writes one of them keeps its temporary file.
    """
    names: dict[Path, set[str]] = {}
    for path in outputs:
        names.setdefault(path.parent, set()).add(path.name)
    before, removed = time.time() - ABANDONED_SECONDS, []
    for folder, wanted in names.items():
        for path in leftovers(folder):
            with contextlib.suppress(OSError):
                if _final_name(path) in wanted and path.is_file() and path.stat().st_mtime < before:
                    path.unlink()
                    removed.append(path)
    return removed


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically and durably."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_digest(source: Path | BinaryIO) -> str:
    """Return the SHA-256 of a file, in hexadecimal; of an open one from its first byte on."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file_digest(file)
    digest = hashlib.sha256()
    source.seek(0)
    while block := source.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def new_numbered_folder(parent: Path, name: str) -> Path:
    """Create and return `parent/NAME`, or the first free one of `NAME-2`, `NAME-3` and so on.

    Processes that start at the same time get different folders.
    """
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder


@contextlib.contextmanager
def locked(folder: Path, name: str = "lock", *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on `folder` within the block; it ends with the process, however that ends.

    The lock keeps two processes from doing the same work. It does not protect the files: some file
    systems ignore locks, so every file is written atomically.

    Args:
        folder: What to lock.
        name: File name of the lock; locks with different names are independent.
        shared: Allow other shared holders, exclude exclusive ones. Windows has exclusive locks
            only: a shared one excludes nobody there.

    Raises:
        MachineError: Another process holds it; the message has its number and host.
    """
    with open(folder / name, "a+", encoding="utf-8") as file:
        if not _try_lock(file.fileno(), shared=shared):
            holder = ""
            with contextlib.suppress(OSError):  # Windows lets nobody read a locked file
                file.seek(0)
                holder = file.read(200)
            raise MachineError(
                f"{printable(folder)} is in use by {printable(holder or 'another process')}: wait "
                "until it has finished, or choose another place"
            )
        if not shared:
            part = f" ({name})" if name != "lock" else ""
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}{part}")
            file.flush()
        yield


def _try_lock(descriptor: int, *, shared: bool) -> bool:
    import filelock

    if not shared:
        return filelock.lock_descriptor(descriptor, blocking=False)
    if sys.platform == "win32":
        return True
    import fcntl

    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # conflicts with filelock's flock
        return True
    return False


def _put_in_place(temporary: Path, path: Path) -> None:
    if not path.exists():
        os.rename(temporary, path)
        return
    old = _temporary_name(path, "old")
    os.rename(path, old)
    try:
        os.rename(temporary, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Rename a file to a name that nothing has, also if others do the same at this moment.

    Raises:
        ConfigError: The name is taken.
    """
    try:
        try:
            os.link(temporary, path)  # a rename would replace
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            os.replace(temporary, path)
    except FileExistsError:
        raise ConfigError(
            f"{printable(path)} exists, another process wrote it meanwhile: choose another output, "
            "or overwrite=true"
        ) from None


def _temporary_name(path: Path, kind: str) -> Path:
    """Return a new hidden name in the same folder, short enough for any file system."""
    stem = os.fsdecode(os.fsencode(path.name)[:MAX_STEM_BYTES])
    return path.with_name(f".{stem}.{kind}-{secrets.token_hex(4)}")


def _final_name(hidden: Path) -> str:
    """Return the name that a temporary name stands for; empty if it is not one of ours."""
    match = LEFTOVER_NAME.fullmatch(hidden.name)
    name = match[1] if match else ""
    return name if len(os.fsencode(name)) < MAX_STEM_BYTES else ""


def _flush(path: Path) -> None:
    """Wait until `path`, a file or a folder, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there; NTFS journals their entries
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _as_machine_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> MachineError:
    """Return what to raise where `path` cannot be written, with advice that fits the reason."""
    reason = error.strerror or str(error)
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "Free some space or choose another place." if is_full else "Choose another place."
    return MachineError(
        f"cannot write {printable(path)}: {reason}; nothing was changed there. {advice}"
    )


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Raise a `ConfigError` if an output exists, unless `overwrite` is set."""
    if path.exists() and not overwrite:
        raise ConfigError(f"{printable(path)} exists: choose another output, or overwrite=true")


def check_writable(path: Path) -> None:
    """Raise a `MachineError` if no file `path` can be made, or none can replace it.

    A folder that does not exist yet would be made in the nearest one that does.
    """
    place = nearest_folder(Path(os.path.realpath(path)).parent)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise write_error(path, error) from error


def nearest_folder(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place
