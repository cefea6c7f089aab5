"""The coefficients of a linear predictor from mel frames for CPUs, compiled by Numba.

The counterpart of `wavenet.mel_predictor.coefficients`, whose hundreds of small tensor
operations cost more than a small model. Each frame and each sub-frame is computed by itself in a
fixed order, so bits do not depend on how many there are.
"""

import math
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray
from torch import Tensor

from wavenet.feature_configs import PredictorConfig
from wavenet.kernels.cache import SOURCES, KernelCache
from wavenet.kernels.compiler import (
    ADDRESS,
    Builder,
    Value,
    compiled,
    compiling,
    inlined,
    llvm_function,
    set_cache,
)
from wavenet.kernels.levinson import Array, Rounding, solve, write_row
from wavenet.kernels.private_files import private_folder
from wavenet.kernels.scalars import at_least, clamp, int_min
from wavenet.kernels.vectors import I64, LANES, Vector, for_range, load, load_scalar
from wavenet.linear_predictor import ROUNDING_VARIANCE
from wavenet.mel_predictor import ITERATIONS, LOG_RANGE, TINY, MelPredictor, coefficients

FRAMES = 8  # computed at once
FRAME_VECTOR = ir.VectorType(ir.DoubleType(), FRAMES)


class Scratch(NamedTuple):
    """Memory of the solver."""

    mel: Array  # (n_mels, FRAMES)
    spectrum: Array  # (bins, FRAMES)
    factor: Array  # (bins, FRAMES)
    ratio: Array  # (FRAMES,)
    r: Array  # autocorrelations of the frames, (F + 1, order + 1)
    between: Array  # of sub-frames, (order + 1, LANES)
    a: Array  # (order, LANES)
    error: Array  # (LANES,)
    reflection: Array  # (LANES,)


class Constants(NamedTuple):
    """Buffers and numbers of a `MelPredictor`."""

    bank: Array  # (n_mels, bins)
    ranges: NDArray[np.int64]  # (n_mels, 2): first bin of a band, and the one after its last
    total: Array  # weight of all bands in a bin, at least `tiny`, (bins,)
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
    rounding: Rounding


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64, ADDRESS)
def sum_band(builder: Builder, weights: Value, bins: Value, count: Value, target: Value) -> None:
    """Store the sum of bins times their weights, for each of `FRAMES` frames."""
    total = cgutils.alloca_once_value(builder, ir.Constant(FRAME_VECTOR, [0.0] * FRAMES))
    with for_range(builder, count) as index:
        weight, place = weighted_bin(builder, weights, bins, index)
        product = builder.fmul(weight, load(builder, place, FRAME_VECTOR).value)
        builder.store(builder.fadd(builder.load(total), product), total)
    Vector(builder, builder.load(total)).store(target)


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64, ADDRESS)
def add_band(builder: Builder, weights: Value, bins: Value, count: Value, ratio: Value) -> None:
    """Add a ratio times the bins' weights to bins, for each of `FRAMES` frames."""
    factor = load(builder, ratio, FRAME_VECTOR).value
    with for_range(builder, count) as index:
        weight, place = weighted_bin(builder, weights, bins, index)
        product = builder.fmul(weight, factor)
        total = builder.fadd(load(builder, place, FRAME_VECTOR).value, product)
        Vector(builder, total).store(place)


def weighted_bin(
    builder: Builder, weights: Value, bins: Value, index: Value
) -> tuple[Value, Value]:
    """Return the weight of a bin for each frame, and the address of the bin."""
    place = builder.add(weights, builder.mul(index, I64(8)))
    number = load_scalar(builder, place, ir.DoubleType())
    weight = ir.Constant(FRAME_VECTOR, ir.Undefined)
    for lane in range(FRAMES):
        weight = builder.insert_element(weight, number, I64(lane))
    return weight, builder.add(bins, builder.mul(index, I64(8 * FRAMES)))


@inlined
def start_spectrum(mel: Array, constants: Constants, spectrum: Array) -> None:
    """Write the mean density of the bands around each bin."""
    ranges = constants.ranges
    for index in range(len(spectrum)):
        for s in range(FRAMES):
            spectrum[index, s] = 0.0
    for band in range(len(mel)):
        for index in range(ranges[band, 0], ranges[band, 1]):
            weight = constants.bank[band, index]
            for s in range(FRAMES):
                spectrum[index, s] += weight * mel[band, s] * constants.density[band]
    for index in range(len(constants.total)):
        for s in range(FRAMES):
            spectrum[index, s] /= constants.total[index]


@inlined
def spread(constants: Constants, scratch: Scratch) -> None:
    """Write the bins of the spectrum whose bands are those of the mel."""
    bank, ranges, total = constants.bank, constants.ranges, constants.total
    mel, spectrum, factor, ratio = scratch.mel, scratch.spectrum, scratch.factor, scratch.ratio
    start_spectrum(mel, constants, spectrum)
    for _ in range(constants.iterations):
        for index in range(len(factor)):
            for s in range(FRAMES):
                factor[index, s] = 0.0
        for band in range(len(mel)):
            first, count = ranges[band, 0], ranges[band, 1] - ranges[band, 0]
            weights = bank.ctypes.data + 8 * (band * len(total) + first)
            offset = 8 * FRAMES * first
            sum_band(weights, spectrum.ctypes.data + offset, count, ratio.ctypes.data)
            for s in range(FRAMES):
                ratio[s] = mel[band, s] / at_least(ratio[s], constants.tiny)
            add_band(weights, factor.ctypes.data + offset, count, ratio.ctypes.data)
        for index in range(len(total)):
            for s in range(FRAMES):
                spectrum[index, s] *= factor[index, s] / total[index]


@inlined
def undo_logarithm(frames: Array, first: int, count: int, constants: Constants, mel: Array) -> None:
    """Write the bands of `count` frames, from `first` on."""
    limit = constants.log_range
    for s in range(FRAMES):
        for band in range(len(mel)):
            frame = first + int_min(s, count - 1)  # the last one fills up
            log = frames[frame, band] * constants.std[band] + constants.mean[band]
            mel[band, s] = math.exp(clamp(log * constants.log_unit, -limit, limit))


@inlined
def autocorrelate(frames: Array, constants: Constants, scratch: Scratch) -> None:
    """Write the autocorrelation of each frame of `(F + 1, n_mels)`."""
    (bins, lags), r = constants.cosines.shape, scratch.r
    for first in range(0, len(frames), FRAMES):
        count = int_min(FRAMES, len(frames) - first)
        undo_logarithm(frames, first, count, constants, scratch.mel)
        spread(constants, scratch)
        for frame in range(first, first + count):
            for lag in range(lags):
                r[frame, lag] = 0.0
        for index in range(bins):  # for all frames: reading the cosines takes longest
            for s in range(count):
                power = scratch.spectrum[constants.nearest[index], s] ** constants.exponent
                for lag in range(lags):
                    r[first + s, lag] += power * constants.cosines[index, lag]
        for frame in range(first, first + count):
            scale = 1 / at_least(r[frame, 0], 1.0)
            for lag in range(lags):
                r[frame, lag] *= scale
            r[frame, 0] += constants.rounding_variance


def solve_frames(
    frames: Array, constants: Constants, scratch: Scratch, rows: NDArray[np.float32]
) -> None:
    """Compute the rows of all sub-frames, `(F * subframes, order + 1)`, of `(F + 1, n_mels)`."""
    subframes, lags = constants.subframes, constants.cosines.shape[1]
    r, between, a = scratch.r, scratch.between, scratch.a
    autocorrelate(frames, constants, scratch)
    for first in range(0, len(rows), LANES):
        for column in range(LANES):
            number = int_min(first + column, len(rows) - 1)  # the last one fills up
            frame, part = number // subframes, number % subframes
            share = (part + 0.5) / subframes
            for lag in range(lags):
                between[lag, column] = r[frame, lag] + share * (r[frame + 1, lag] - r[frame, lag])
        solve(between, a, scratch.error, scratch.reflection)
        for column in range(int_min(LANES, len(rows) - first)):
            write_row(a, scratch.error, column, constants.rounding, rows[first + column])


@lru_cache
def _solver() -> Any:
    kernel = compiled(solve_frames, counts_references=False)
    name = "predictor-coefficients"
    set_cache(kernel, KernelCache(name, private_folder(), SOURCES))
    return kernel


def cpu_coefficients(predictor: MelPredictor, frames: Tensor) -> Tensor:
    """Return `coefficients(predictor, frames)`; on other devices PyTorch computes it."""
    if type(frames) is not Tensor or frames.device.type != "cpu":
        return coefficients(predictor, frames)
    count = (frames.shape[1] - 1) * predictor.subframes
    items, shape = frames.double().contiguous().numpy(), (len(frames), count, predictor.num_rows)
    rows = np.empty(shape, np.float32)
    solver, constants = _solver(), _constants(predictor.config)
    scratch = _scratch(constants, items.shape[1])
    with nullcontext() if solver.signatures else compiling():
        for item, own_rows in zip(items, rows, strict=True):
            solver(item, constants, scratch, own_rows)
    return torch.from_numpy(rows)


@lru_cache
def _constants(config: PredictorConfig) -> Constants:
    predictor = MelPredictor(config)
    bank, zeros = predictor.bank.numpy(), np.zeros(predictor.n_mels)
    used = bank > 0
    ranges = np.stack([used.argmax(axis=1), bank.shape[1] - used[:, ::-1].argmax(axis=1)], axis=1)
    ranges[~used.any(axis=1)] = 0
    return Constants(
        bank=bank,
        ranges=ranges.astype(np.int64),
        total=bank.sum(axis=0).clip(min=TINY),
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
        rounding=Rounding(),
    )


def _scratch(constants: Constants, num_frames: int) -> Scratch:
    (n_mels, bins), lags = constants.bank.shape, constants.cosines.shape[1]
    return Scratch(
        mel=np.empty((n_mels, FRAMES)),
        spectrum=np.empty((bins, FRAMES)),
        factor=np.empty((bins, FRAMES)),
        ratio=np.empty(FRAMES),
        r=np.empty((num_frames, lags)),
        between=np.empty((lags, LANES)),
        a=np.empty((lags - 1, LANES)),
        error=np.empty(LANES),
        reflection=np.empty(LANES),
    )
