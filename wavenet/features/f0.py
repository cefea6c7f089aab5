"""F0 and voicing of a waveform, by librosa's pYIN (Mauch and Dixon 2014), and librosa itself.

Numba compiles parts of librosa when they are first called and caches them on the disk: an index and
the code. If two processes write these at once, they do not match, and from then on every process
that calls such a part dies of a segmentation fault. Jobs that start at the same time in a new
environment would do that, so `compiled_librosa` lets one process at a time compile.
"""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from wavenet.config import F0Config
from wavenet.utils.errors import require

REFERENCE_HZ = 100.0
PERIODS = 4  # of the lowest F0 in an analysis frame
LOCK = "torch-wavenet.lock"


def f0_features(waveform: NDArray[np.float32], config: F0Config) -> NDArray[np.float32]:
    """Return log2(F0 / 100 Hz), voicing and its probability, `(3, ceil(T / hop_length))`.

    F0 is interpolated linearly in unvoiced stretches; it is 0 if nothing is voiced.

    Args:
        waveform: Samples in [-1, 1], `(T,)`.
        config: Range of F0 and hop.
    """
    count = -(-len(waveform) // config.hop_length)
    length = 2 ** int(np.ceil(np.log2(PERIODS * config.sample_rate / config.f_min)))
    if not len(waveform):
        return np.zeros((3, 0), np.float32)
    f0, voiced, probability = compiled_librosa().pyin(
        np.pad(waveform, (0, max(0, length - len(waveform)))),
        fmin=config.f_min,
        fmax=config.f_max,
        sr=config.sample_rate,
        frame_length=length,
        hop_length=config.hop_length,
    )
    known = np.flatnonzero(voiced[:count])
    height = np.zeros(count)
    if len(known):
        height = np.interp(np.arange(count), known, np.log2(f0[known] / REFERENCE_HZ))
    return np.stack([height, voiced[:count], probability[:count]]).astype(np.float32)


@functools.cache
def compiled_librosa() -> Any:
    """Return librosa, with the functions that we use compiled or loaded from its cache.

    Raises:
        MachineError: It is not installed.
    """
    librosa: Any = require("librosa", "train")  # its submodules are loaded on first use
    package = Path(librosa.__file__).parent  # always exists, unlike __pycache__
    noise = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    with compiling_in_turn(package):
        librosa.pyin(noise, fmin=100.0, fmax=200.0, sr=8000, frame_length=512)
        librosa.onset.onset_detect(y=noise, sr=8000, units="time", backtrack=True)
        librosa.effects.trim(noise)
        librosa.effects.split(noise)
    return librosa


@contextlib.contextmanager
def compiling_in_turn(package: Path) -> Iterator[None]:
    """Wait until no other process compiles what Numba caches for the package in a folder."""
    with contextlib.ExitStack() as stack:
        for folder in (package, Path(tempfile.gettempdir())):
            with contextlib.suppress(OSError):  # it cannot be written
                stack.enter_context(FileLock(folder / LOCK))
                break
        yield
