"""Changes the sample rate of a signal that comes in blocks."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from wavenet.utils.errors import require


def resampled(
    blocks: Iterable[NDArray[np.float32]], rate: int, wanted: int
) -> Iterator[NDArray[np.float32]]:
    """Yield one channel at another sample rate, in blocks `(T,)`; samples may pass 1.0.

    Args:
        blocks: The samples in order, `(T,)` each.
        rate: Their sample rate, in Hz.
        wanted: That of the result, in Hz.
    """
    stream = require("soxr", "generate").ResampleStream(rate, wanted, 1, "float32", quality="HQ")
    end = (np.zeros(0, np.float32), True)
    for block, last in itertools.chain(((block, False) for block in blocks), [end]):
        yield stream.resample_chunk(block, last=last)
