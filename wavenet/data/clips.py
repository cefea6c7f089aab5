"""Whole clips of a prepared folder."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet.data.audio import read_samples
from wavenet.data.manifest import Clip


def read_clip(folder: Path, clip: Clip) -> NDArray[np.float32]:
    """Return all samples of a prepared clip, `(T,)`."""
    return np.ascontiguousarray(read_samples(folder / clip.path)[:, 0])
