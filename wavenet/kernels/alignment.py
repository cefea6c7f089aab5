"""Arrays that begin at a cache line."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_LINE_BYTES = 64


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """Return a flat copy that begins at a cache line and has a spare line after it."""
    memory = np.zeros(values.nbytes + 2 * CACHE_LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    copy = memory[start : start + values.nbytes].view(values.dtype)
    copy[:] = values.ravel()
    return copy
