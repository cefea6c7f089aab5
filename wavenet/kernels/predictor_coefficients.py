"""The coefficients of a linear predictor from mel frames for CPUs, compiled by Numba.

The counterpart of `wavenet.linear_predictor.coefficients`, whose hundreds of small tensor
operations cost more than a small model. Each frame and each sub-frame is computed by itself in a
fixed order, so bits do not depend on how many there are.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.feature_configs import PredictorConfig
from wavenet.kernels.cache import KernelCache, private_folder
from wavenet.kernels.compiler import compiled, inlined, set_cache
from wavenet.linear_predictor import (
    ITERATIONS,
    LOG_RANGE,
    ROUNDING_VARIANCE,
    TINY,
    LinearPredictor,
    coefficients,
)

Array = NDArray[np.float64]


class Constants(NamedTuple):
    """Buffers and numbers of a `LinearPredictor`."""

    bank: Array  # (n_mels, bins)
    ranges: NDArray[np.int64]  # (n_mels, 2): first bin of a band, and the one after its last
    total: Array  # weight of all bands in a bin, (bins,)
    density: Array  # (n_mels,)
    nearest: NDArray[np.int64]  # (bins,)
    cosines: Array  # (bins, order + 1)
    mean: Array  # (n_mels,)
    std: Array  # (n_mels,)
    log_unit: float
    exponent: float  # from a bin of the mel spectrum's power to its square
    subframes: int
    # those of `wavenet.linear_predictor`; arguments, for the cache of compiled code knows the
    # sources of this folder alone
    iterations: int
    log_range: float
    rounding_variance: float
    tiny: float


@inlined
def spread(mel: Array, constants: Constants, spectrum: Array, factor: Array) -> None:
    """Write the bins whose bands are `mel`; `factor` is scratch memory of their size."""
    bank, ranges, total = constants.bank, constants.ranges, constants.total
    spectrum[:] = 0.0
    for band in range(len(mel)):
        for index in range(ranges[band, 0], ranges[band, 1]):
            spectrum[index] += bank[band, index] * mel[band] * constants.density[band]
    for index in range(len(total)):
        spectrum[index] /= max(total[index], constants.tiny)
    for _ in range(constants.iterations):
        factor[:] = 0.0
        for band in range(len(mel)):
            found = 0.0
            for index in range(ranges[band, 0], ranges[band, 1]):
                found += bank[band, index] * spectrum[index]
            ratio = mel[band] / max(found, constants.tiny)
            for index in range(ranges[band, 0], ranges[band, 1]):
                factor[index] += bank[band, index] * ratio
        for index in range(len(total)):
            spectrum[index] *= factor[index] / max(total[index], constants.tiny)


@inlined
def autocorrelate(frames: Array, constants: Constants, r: Array) -> None:
    """Write the autocorrelation of each frame, `(F, order + 1)`, of `(F, n_mels)`."""
    bins, lags = constants.cosines.shape
    spectrum, factor, mel = np.empty(bins), np.empty(bins), np.empty(frames.shape[1])
    for frame in range(len(frames)):
        for band in range(len(mel)):
            log = frames[frame, band] * constants.std[band] + constants.mean[band]
            natural = min(max(log * constants.log_unit, -constants.log_range), constants.log_range)
            mel[band] = math.exp(natural)
        spread(mel, constants, spectrum, factor)
        r[frame] = 0.0
        for index in range(bins):
            power = spectrum[constants.nearest[index]] ** constants.exponent
            for lag in range(lags):
                r[frame, lag] += power * constants.cosines[index, lag]
        scale = 1 / max(r[frame, 0], 1.0)
        for lag in range(lags):
            r[frame, lag] *= scale
        r[frame, 0] += constants.rounding_variance


@inlined
def solve(r: Array, a: Array, error: Array) -> None:
    """Compute predictors `a`, `(order, N)`, and errors of autocorrelations `r`, `(order + 1, N)`.

    Coefficients are from the newest to the oldest sample. `error` holds `r[0]` before.
    """
    order, count = a.shape
    reflection = np.empty(count)
    for lag in range(order):
        reflection[:] = 0.0
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


def solve_frames(frames: Array, constants: Constants, a: Array, error: Array) -> None:
    """Compute the predictors of all sub-frames of `(F + 1, n_mels)` frames, and their errors."""
    subframes = constants.subframes
    r = np.empty((len(frames), constants.cosines.shape[1]))
    autocorrelate(frames, constants, r)
    between = np.empty((r.shape[1], a.shape[1]))
    for column in range(a.shape[1]):
        frame, part = column // subframes, column % subframes
        share = (part + 0.5) / subframes
        for lag in range(r.shape[1]):
            between[lag, column] = r[frame, lag] + share * (r[frame + 1, lag] - r[frame, lag])
    error[:] = between[0]
    solve(between, a, error)


@lru_cache
def _solver() -> Any:
    kernel = compiled(solve_frames)
    name = "predictor-coefficients"
    set_cache(kernel, KernelCache(name, private_folder(), (Path(__file__).parent,)))
    return kernel


def cpu_coefficients(predictor: LinearPredictor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return `coefficients(predictor, frames)`; on other devices PyTorch computes it."""
    if type(frames) is not Tensor or frames.device.type != "cpu":
        return coefficients(predictor, frames)
    constants, count = _constants(predictor.config), (frames.shape[1] - 1) * predictor.subframes
    items = []
    for item in frames.double().numpy():
        a, error = np.zeros((predictor.order, count)), np.empty(count)
        _solver()(np.ascontiguousarray(item), constants, a, error)
        items.append((torch.from_numpy(a).flip(0).t(), torch.from_numpy(error)))
    solved, errors = zip(*items, strict=True)
    return torch.stack(solved), torch.stack(errors)


@lru_cache
def _constants(config: PredictorConfig) -> Constants:
    predictor = LinearPredictor(config)
    bank, zeros = predictor.bank.numpy(), np.zeros(predictor.n_mels)
    used = bank > 0
    ranges = np.stack([used.argmax(axis=1), bank.shape[1] - used[:, ::-1].argmax(axis=1)], axis=1)
    ranges[~used.any(axis=1)] = 0
    return Constants(
        bank=bank,
        ranges=ranges.astype(np.int64),
        total=bank.sum(axis=0),
        density=predictor.density.numpy(),
        nearest=predictor.nearest.numpy(),
        cosines=predictor.cosines.numpy(),
        mean=predictor.mean.numpy() + zeros,
        std=predictor.std.numpy() + zeros,
        log_unit=float(predictor.log_unit),
        exponent=2 / predictor.power,
        subframes=predictor.subframes,
        iterations=ITERATIONS,
        log_range=LOG_RANGE,
        rounding_variance=ROUNDING_VARIANCE,
        tiny=TINY,
    )
