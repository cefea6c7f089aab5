"""Memory that begins where a vector may."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.kernels.vectors import BYTES


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """Return a flat copy that begins at a multiple of a cache line, with a line to spare behind."""
    room = np.zeros(values.nbytes + 2 * BYTES, np.uint8)
    start = -room.ctypes.data % BYTES
    copy = room[start : start + values.nbytes].view(values.dtype)
    copy[:] = values.ravel()
    return copy
