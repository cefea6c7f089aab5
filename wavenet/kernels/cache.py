"""Compiled kernels from one process to the next, in a private folder of the user.

What Numba's own cache would do, but that a damaged, missing, unwritable or contested cache only
ever means to compile again. A compiled function is code that will run, so the folder must belong to
the user and be closed to writing by others, or it is neither read nor written. What is read must
have the digest that it was written with. A file's name is the digest of all that it depends on: our
sources, Numba, the processor, the types.

`WAVENET_CACHE` names another folder; empty, it turns the cache off.
"""

import hashlib
import logging
import os
import pickle  # noqa: TID251 only what this user wrote, to a folder closed to others
import stat
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import serialize
from numba.core.compiler import CompileResult

from wavenet.utils.errors import printable
from wavenet.utils.files import atomic_file

log = logging.getLogger("wavenet")
DIGEST = hashlib.sha256().digest_size


class KernelCache:
    """What a Numba dispatcher asks of the cache of its function.

    Args:
        name: Of the function.
        folder: Where to keep it; absent for no cache.

    Attributes:
        hits: Times that the function did not have to be compiled.
    """

    def __init__(self, name: str, folder: Path | None) -> None:
        self.name = name
        self.folder = folder
        self.hits = 0

    @property
    def cache_path(self) -> str:
        """Return the folder's name."""
        return str(self.folder or "")

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return a function that was compiled before, or None."""
        compiled = self._load(self._path(signature, target.codegen()), target)
        if compiled is None:
            log.info("compiling the CPU sampler for this machine, once: seconds")
        else:
            self.hits += 1
        return compiled

    def _load(self, path: Path | None, target: Any) -> Any:
        if path is None or not path.exists():
            return None
        try:
            if not _private(path):
                raise PermissionError("others can write it")
            content = path.read_bytes()
            digest, payload = content[:DIGEST], content[DIGEST:]
            if hashlib.sha256(payload).digest() != digest:
                raise ValueError("its digest differs")
            target.refresh()
            return CompileResult._rebuild(target, *pickle.loads(payload))  # noqa: S301
        except Exception as error:  # noqa: BLE001 whatever is wrong with it, compiling helps
            log.debug("%s is of no use: %s", printable(path), printable(error))
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep a function, if that can be done."""
        path = self._path(signature, compiled.library.codegen)
        if path is None:
            return
        try:
            payload = serialize.dumps(compiled._reduce())
            with atomic_file(path) as temporary:
                temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
                temporary.chmod(0o600)
        except Exception as error:  # noqa: BLE001 it is compiled again another time
            log.debug("%s cannot be kept: %s", printable(path), printable(error))

    def flush(self) -> None:
        """Do nothing: files of other versions serve those versions."""

    def _path(self, signature: Any, codegen: Any) -> Path | None:
        if self.folder is None:
            return None
        versions = (sys.implementation.cache_tag, np.__version__, numba.__version__)
        facts = (*versions, llvmlite.__version__, codegen.magic_tuple(), str(signature))
        key = hashlib.sha256(repr((_sources(), *facts)).encode()).hexdigest()
        return self.folder / f"{self.name}-{key[:32]}.bin"


def private_folder() -> Path | None:
    """Return the folder for compiled code, made if need be; None where there is no safe one."""
    chosen = os.environ.get("WAVENET_CACHE")
    if chosen == "":
        return None
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(chosen or Path(home) / "torch-wavenet").absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        safe = _private(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        log.debug("no folder for compiled code: %s", printable(error))
        return None
    if not safe:
        log.warning("%s is open to others: compiled code is not kept there", printable(folder))
        return None
    return folder


def _private(path: Path) -> bool:
    """Return whether a path is this user's, no link, and closed to writing by others."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return False
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


@lru_cache
def _sources() -> str:
    """Return the digest of the files that the kernel is made of."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    folders = (package / "kernels", package / "sampling" / "cpu")
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
