"""Memory-bandwidth limit of sampling: how often per second the packed weights can be read.

A sampler of one stream that reads every weight for every sample is at most as fast as a matrix
product that reads the same bytes. The kernel can be faster: what it computes ahead reads some
weights once for many samples.
"""

import threading
import time
from functools import lru_cache
from typing import Any

import numpy as np

from wavenet.kernels.by_address import call_of
from wavenet.kernels.compiler import Address, compiled
from wavenet.kernels.matmul import PRODUCT, WEIGHT_BYTES, aligned, make_product, row_bytes
from wavenet.sampling.cpu import CpuSampler

OUTPUTS, INPUTS = 64, 512  # of one product: large enough to hide the cost of the call


@lru_cache
def _stream_of(weight_dtype: str) -> Any:
    piece, call_product = OUTPUTS * INPUTS * WEIGHT_BYTES[weight_dtype], call_of(PRODUCT)

    def stream(
        product: Address,
        passes: int,
        weights: Address,
        size: int,
        scales: Address,
        x: Address,
        y: Address,
    ) -> None:
        for _ in range(passes):
            for start in range(0, size - piece + 1, piece):
                call_product(product, weights + start, scales, 0, OUTPUTS, INPUTS, x, 0, y, 0, 1)

    return compiled(stream, weight_dtype)


def bandwidth_limit(sampler: CpuSampler, seconds: float = 0.2) -> float:
    """Return samples per second of one stream if reading the weights were all the work.

    Args:
        sampler: Its packed weights are read, an equal part by each of its threads.
        seconds: Duration of the measurement.
    """
    stream, weight_dtype = _stream_of(sampler.weight_dtype), sampler.weight_dtype
    product = make_product(weight_dtype).address
    weights, total = sampler.weights.matrices, sampler.weights.matrices.nbytes
    piece = OUTPUTS * INPUTS * WEIGHT_BYTES[weight_dtype]
    part = max(total // sampler.num_threads // piece, 1) * piece
    weights = weights if total >= part * sampler.num_threads else aligned(np.resize(weights, part))
    scales, y = aligned(np.zeros(OUTPUTS, np.float32)), np.zeros(64 * 64, np.float32)
    x = aligned(np.zeros(row_bytes(INPUTS, weight_dtype), np.uint8))

    def read(passes: int, thread: int) -> None:
        start = weights.ctypes.data + min(thread * part, weights.nbytes - part)
        result = y.ctypes.data + 4 * 2 * OUTPUTS * thread
        stream(product, passes, start, part, scales.ctypes.data, x.ctypes.data, result)

    def timed(passes: int) -> float:
        threads = [
            threading.Thread(target=read, args=(passes, number))
            for number in range(1, sampler.num_threads)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        read(passes, 0)
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    timed(1)
    passes = 1
    while (taken := timed(passes)) < seconds / 4:
        passes *= 2
    passes = max(1, round(passes * seconds / taken))
    return part * sampler.num_threads * passes / timed(passes) / total
