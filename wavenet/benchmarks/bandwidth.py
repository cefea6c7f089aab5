"""How fast this machine could be: the packed weights streamed once a sample, and nothing else.

Generation of one stream reads every weight for every sample, so the rate at which a plain product
reads the same bytes is a ceiling for whoever reads them all. (The kernel does not: what it computes
ahead reads some weights once for many samples.)
"""

import threading
import time
from functools import lru_cache
from typing import Any

import numpy as np

from wavenet.kernels.alignment import aligned
from wavenet.kernels.compiler import Address, compiled
from wavenet.kernels.matmul import WEIGHT_BYTES, product_of, row_bytes
from wavenet.sampling.cpu import CpuSampler

OUTPUTS, INPUTS = 64, 512  # of a product: long enough that its start does not count


@lru_cache
def _stream_of(precision: str) -> Any:
    product = product_of(precision)
    piece = OUTPUTS * INPUTS * WEIGHT_BYTES[precision]

    def stream(
        passes: int,
        weights: Address,
        size: int,
        scales: Address,
        x: Address,
        scale: Address,
        y: Address,
    ) -> None:
        for _ in range(passes):
            for start in range(0, size - piece + 1, piece):
                product(weights + start, scales, INPUTS, OUTPUTS, x, 0, scale, y, 0, 1)

    return compiled(stream, precision)


def streaming_ceiling(sampler: CpuSampler, seconds: float = 0.2) -> float:
    """Return the samples a second of one stream whose weights are read at full speed.

    Args:
        sampler: Its packed weights are read, a share by each of its threads.
        seconds: Time to read for.
    """
    stream, precision = _stream_of(sampler.weight_dtype), sampler.weight_dtype
    weights, total = sampler.weights.matrices, sampler.packed_bytes
    piece = OUTPUTS * INPUTS * WEIGHT_BYTES[precision]
    share = max(total // sampler.num_threads // piece, 1) * piece
    weights = (
        weights if total >= share * sampler.num_threads else aligned(np.resize(weights, share))
    )
    scales, y = aligned(np.zeros(OUTPUTS, np.float32)), np.zeros(64 * 64, np.float32)
    x = aligned(np.zeros(row_bytes(INPUTS, precision), np.uint8))
    end = x.ctypes.data + x.nbytes - 64

    def read(passes: int, thread: int) -> None:
        place = weights.ctypes.data + min(thread * share, weights.nbytes - share)
        room = y.ctypes.data + 4 * 2 * OUTPUTS * thread
        stream(passes, place, share, scales.ctypes.data, x.ctypes.data, end, room)

    def timed(passes: int) -> float:
        others = [
            threading.Thread(target=read, args=(passes, thread))
            for thread in range(1, sampler.num_threads)
        ]
        started = time.perf_counter()
        for other in others:
            other.start()
        read(passes, 0)
        for other in others:
            other.join()
        return time.perf_counter() - started

    timed(1)
    passes = 1
    while (taken := timed(passes)) < seconds / 4:
        passes *= 2
    passes = max(1, round(passes * seconds / taken))
    return share * sampler.num_threads * passes / timed(passes) / total
