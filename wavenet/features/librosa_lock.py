"""librosa, loaded and used for the first time by one process after the other.

Numba compiles parts of it as they are loaded or first called, and keeps them on the disk: an index,
and the code that it points into. Where two processes write these at once they do not fit, and from
then on every process that calls such a part dies of a segmentation fault. Trainings that start side
by side in a new environment would do just that.
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
    """Return librosa, with all that we use of it compiled or read from its cache.

    Raises:
        EnvironmentFault: It is not installed.
    """
    librosa: Any = require("librosa", "train")  # its parts are loaded when they are asked for
    beside = Path(librosa.__file__).parent  # is there from the start, as __pycache__ may not be
    noise = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    with _alone(beside, Path(tempfile.gettempdir())):
        librosa.pyin(noise, fmin=100.0, fmax=200.0, sr=8000, frame_length=512)
        librosa.onset.onset_detect(y=noise, sr=8000, units="time", backtrack=True)
        librosa.effects.trim(noise)
        librosa.effects.split(noise)
    return librosa


@contextlib.contextmanager
def _alone(*folders: Path) -> Iterator[None]:
    """Hold a lock in the first of these folders that can be written."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            with contextlib.suppress(OSError):
                stack.enter_context(FileLock(folder / LOCK))
                break
        yield
