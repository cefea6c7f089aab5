"""Loads and compiles librosa under a lock, one process at a time.

Numba compiles parts of librosa when they are first called and caches them on the disk: an index and
the code. If two processes write these at once, they do not match, and from then on every process
that calls such a part dies of a segmentation fault. Jobs that start at the same time in a new
environment would do that.
"""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from wavenet.utils.errors import require

LOCK = "torch-wavenet.lock"


@functools.cache
def compiled_librosa() -> Any:
    """Return librosa, with the functions that we use compiled or loaded from its cache.

    Raises:
        MachineError: It is not installed.
    """
    librosa: Any = require("librosa", "train")  # its submodules are loaded on first use
    package = Path(librosa.__file__).parent  # always exists, unlike __pycache__
    noise = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    with _locked(package, Path(tempfile.gettempdir())):
        librosa.pyin(noise, fmin=100.0, fmax=200.0, sr=8000, frame_length=512)
        librosa.onset.onset_detect(y=noise, sr=8000, units="time", backtrack=True)
        librosa.effects.trim(noise)
        librosa.effects.split(noise)
    return librosa


@contextlib.contextmanager
def _locked(*folders: Path) -> Iterator[None]:
    """Hold a lock in the first of these folders that can be written."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            with contextlib.suppress(OSError):
                stack.enter_context(FileLock(folder / LOCK))
                break
        yield
