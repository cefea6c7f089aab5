"""Levinson's recursion for CPUs, compiled by Numba, for many autocorrelations at once.

The plain one in `wavenet.linear_predictor` is 128 rounds of small tensor operations, whose overhead
is most of its time.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.kernels.cache import KernelCache, private_folder
from wavenet.kernels.compiler import compiled, set_cache
from wavenet.linear_predictor import levinson

Array = NDArray[np.float64]


def solve(r: Array, a: Array, error: Array, reflection: Array) -> None:
    """Compute predictors `a`, `(order, N)`, and errors of autocorrelations `r`, `(order + 1, N)`.

    Coefficients are from the newest to the oldest sample; each column is computed by itself, in a
    fixed order. `error` holds `r[0]` before, `reflection` is scratch memory, `(N,)`.
    """
    order, count = a.shape
    for lag in range(order):
        for s in range(count):
            reflection[s] = 0.0
        for tap in range(lag):
            for s in range(count):
                reflection[s] += a[tap, s] * r[lag - tap, s]
        for s in range(count):
            reflection[s] = (r[lag + 1, s] - reflection[s]) / error[s]
            error[s] *= 1 - reflection[s] * reflection[s]
        for tap in range((lag + 1) // 2):
            other = lag - 1 - tap
            for s in range(count):
                first, last = a[tap, s], a[other, s]
                a[tap, s] = first - reflection[s] * last
                a[other, s] = last - reflection[s] * first
        for s in range(count):
            a[lag, s] = reflection[s]


@lru_cache
def _solver() -> Any:
    kernel = compiled(solve)
    set_cache(kernel, KernelCache("levinson", private_folder(), (Path(__file__).parent,)))
    return kernel


def cpu_levinson(r: Tensor) -> tuple[Tensor, Tensor]:
    """Return `levinson(r)`; on other devices PyTorch computes it."""
    if type(r) is not Tensor or r.device.type != "cpu":
        return levinson(r)
    by_lag = r.t().contiguous().numpy()
    a, error = np.zeros((by_lag.shape[0] - 1, by_lag.shape[1])), by_lag[0].copy()
    _solver()(by_lag, a, error, np.empty_like(error))
    return torch.from_numpy(a).flip(0).t(), torch.from_numpy(error)

