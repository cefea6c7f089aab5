"""What Numba compiled, kept on disk.

Like Numba's own cache, but a damaged, missing, unwritable or contested cache only means compiling
again. The name of a file has digests of all that it depends on: the sources; Numba, the processor
and the types.
"""

import hashlib
import logging
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np

from wavenet.kernels.compiler import compiled_from_bytes, compiled_to_bytes, target_key
from wavenet.kernels.private_files import read_private, write_private
from wavenet.kernels.sources import SAMPLER_SOURCES, SOURCES, compiled_files, sources_digest
from wavenet.utils.errors import printable

log = logging.getLogger("wavenet")


class KernelCache:
    """The cache of one compiled function, with the interface that Numba's dispatcher expects.

    Args:
        name: First part of the file names.
        folder: Where to store the files; `None` turns the cache off.
        sources: Python files that the function is compiled from, or their folders.

    Attributes:
        hits: How often a function was loaded instead of compiled.
    """

    def __init__(self, name: str, folder: Path | None, sources: Sequence[Path]) -> None:
        self.name = name
        self.folder = folder
        self.sources = tuple(sources)
        self.hits = 0

    @property
    def cache_path(self) -> str:
        """Return the name of the folder."""
        return str(self.folder or "")

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return a function that was compiled before, or `None`."""
        function = self._load(self._path(signature, target.codegen()), target)
        if function is None:
            _announce(self.folder)
        else:
            self.hits += 1
        return function

    def _load(self, path: Path | None, target: Any) -> Any:
        if path is None or not path.exists():
            return None
        try:
            return compiled_from_bytes(read_private(path), target)
        except Exception as error:  # noqa: BLE001 compiling again helps against any of them
            log.debug("%s cannot be used: %s", printable(path), printable(error))
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Store a compiled function, if possible."""
        path = self._path(signature, result.library.codegen)
        if path is None:
            return
        try:
            write_private(path, compiled_to_bytes(result))
        except Exception as error:  # noqa: BLE001 the next process compiles again
            log.debug("%s cannot be written: %s", printable(path), printable(error))

    def flush(self) -> None:
        """Do nothing: other versions may still use their files."""

    def _path(self, signature: Any, codegen: Any) -> Path | None:
        if self.folder is None:
            return None
        versions = (sys.implementation.cache_tag, np.__version__, numba.__version__)
        facts = (*versions, llvmlite.__version__, target_key(codegen), str(signature))
        key = hashlib.sha256(repr(facts).encode()).hexdigest()
        return self.folder / f"{self.name}-{sources_digest(self.sources)}-{key[:32]}.bin"


@lru_cache
def _announce(folder: Path | None) -> None:
    """Say why there is a wait, once for all functions that a process compiles."""
    both = SOURCES, SAMPLER_SOURCES
    is_first = folder is None or not any(any(compiled_files(folder, "*", made)) for made in both)
    what = "for this machine, once" if is_first else "what this model needs besides, once"
    log.info("compiling %s: some seconds, longer on a busy machine", what)
