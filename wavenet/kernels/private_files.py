"""Files of compiled code, in a folder that only this user can write.

Compiled code will be executed, so the folder must belong to the user and be closed to writes by
others; otherwise it is neither read nor written. Every file begins with a digest of its content.

`WAVENET_CACHE` names another folder; an empty value turns the cache off.
"""

import hashlib
import logging
import os
import stat
from pathlib import Path

from wavenet.utils.errors import printable
from wavenet.utils.files import atomic_file

log = logging.getLogger("wavenet")
DIGEST_BYTES = hashlib.sha256().digest_size


def private_folder() -> Path | None:
    """Return the folder for compiled code, created if needed; `None` without a safe one."""
    chosen = os.environ.get("WAVENET_CACHE")
    if chosen == "":
        return None
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(chosen or Path(home) / "torch-wavenet").absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        safe = _is_private(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        log.debug("no folder for compiled code: %s", printable(error))
        return None
    if not safe:
        log.warning("%s is open to others: compiled code is not kept there", printable(folder))
        return None
    return folder


def read_private(path: Path) -> bytes:
    """Return what `write_private` wrote.

    Raises:
        OSError: The file is missing, or others can write it.
        ValueError: It is damaged.
    """
    if not _is_private(path):
        raise PermissionError("others can write it")
    content = path.read_bytes()
    digest, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("its digest differs")
    return payload


def write_private(path: Path, payload: bytes) -> None:
    """Write a file that only this user can read and write, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
        temporary.chmod(0o600)


def _is_private(path: Path) -> bool:
    """Return whether a path is this user's, not a link, and closed to writes by others."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return False
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
