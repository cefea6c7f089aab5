"""The coefficients of a linear predictor from mel frames for CPUs, compiled by Numba.

The counterpart of `wavenet.mel_predictor.coefficients`, whose hundreds of small tensor
operations cost more than a small model; the last bits differ. Each frame and each sub-frame is
computed by itself in a fixed order, so bits do not depend on how many there are.
"""

import math
from contextlib import nullcontext
from functools import lru_cache, wraps
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from wavenet.feature_configs import PredictorConfig
from wavenet.kernels.cache import KernelCache
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
from wavenet.kernels.levinson import ROW_BYTES, Array, Rounding, row, solve, write_row
from wavenet.kernels.private_files import private_folder
from wavenet.kernels.scalars import F64, at_least, clamp, int_min
from wavenet.kernels.sources import SOURCES
from wavenet.kernels.vectors import (
    DOUBLE_VECTOR,
    I64,
    LANES,
    Variable,
    Vector,
    broadcast,
    constant,
    for_range,
    load,
    load_scalar,
)
from wavenet.linear_predictor import ROUNDING_VARIANCE
from wavenet.mel_predictor import ITERATIONS, LOG_RANGE, TINY, MelPredictor, coefficients


class Scratch(NamedTuple):
    """Memory of the solver."""

    mel: Array  # (n_mels, LANES): sixteen frames at once
    spectrum: Array  # (bins, LANES)
    factor: Array  # (bins, LANES), zeros between uses
    r: Array  # autocorrelations of the frames, (F + 1, padded order + 1), zeros at first
    between: Array  # of sub-frames, (order + 1, LANES)
    a: Array  # (order, LANES)
    error: Array  # (LANES,)


class Constants(NamedTuple):
    """Buffers and numbers of a `MelPredictor`."""

    bank: Array  # (n_mels, bins)
    ranges: NDArray[np.int64]  # (n_mels, 2): first bin of a band, and the one after its last
    total: Array  # weight of all bands in a bin, at least `tiny`, (bins,)
    density: Array  # (n_mels,)
    nearest: NDArray[np.int64]  # (bins,)
    cosines: Array  # (bins, order + 1), padded to a multiple of LANES lags
    mean: Array  # (n_mels,)
    std: Array  # (n_mels,)
    log_unit: float
    exponent: float  # from a bin of the mel spectrum's power to its square
    subframes: int
    # those of the definition in PyTorch; arguments, for the cache of compiled code knows the
    # sources of this folder alone
    iterations: int
    log_range: float
    rounding_variance: float
    tiny: float
    rounding: Rounding


@llvm_function(types.void, *[ADDRESS] * 3, types.int64, types.float64)
def add_band(
    builder: Builder, bins: Value, weights: Value, mel: Value, count: Value, density: Value
) -> None:
    """Add a band's density to its bins by their weights."""
    band, factor = load(builder, mel, DOUBLE_VECTOR), broadcast(builder, density)
    with for_range(builder, count) as index:
        place = row(builder, bins, index)
        added = weight_of(builder, weights, index) * band * factor
        (load(builder, place, DOUBLE_VECTOR) + added).store(place)


@llvm_function(types.void, *[ADDRESS] * 4, types.int64, types.float64)
def compare_band(
    builder: Builder,
    factor: Value,
    spectrum: Value,
    weights: Value,
    mel: Value,
    count: Value,
    tiny: Value,
) -> None:
    """Add to the factors of a band's bins the ratio of the mel to their sum."""
    total = Variable(constant(builder, 0.0, DOUBLE_VECTOR))
    with for_range(builder, count) as index:
        power = load(builder, row(builder, spectrum, index), DOUBLE_VECTOR)
        total.set(total.get() + weight_of(builder, weights, index) * power)
    ratio = load(builder, mel, DOUBLE_VECTOR) / total.get().maximum(broadcast(builder, tiny))
    with for_range(builder, count) as index:
        place = row(builder, factor, index)
        added = weight_of(builder, weights, index) * ratio
        (load(builder, place, DOUBLE_VECTOR) + added).store(place)


def weight_of(builder: Builder, weights: Value, index: Value) -> Vector:
    """Return the weight of a bin, for all frames."""
    place = builder.add(weights, builder.mul(index, I64(8)))
    return broadcast(builder, load_scalar(builder, place, F64))


@llvm_function(types.void, *[ADDRESS] * 3, types.int64)
def multiply_bins(
    builder: Builder, spectrum: Value, factor: Value, total: Value, count: Value
) -> None:
    """Multiply bins by their factors over the weights of all bands; the factors become zeros."""
    with for_range(builder, count) as index:
        place, factors = row(builder, spectrum, index), row(builder, factor, index)
        share = load(builder, factors, DOUBLE_VECTOR) / weight_of(builder, total, index)
        (load(builder, place, DOUBLE_VECTOR) * share).store(place)
        constant(builder, 0.0, DOUBLE_VECTOR).store(factors)


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64, types.float64)
def add_scaled(builder: Builder, target: Value, source: Value, count: Value, scale: Value) -> None:
    """Add `count` numbers, a multiple of `LANES`, times a scale to others."""
    factor = broadcast(builder, scale)
    with for_range(builder, builder.sdiv(count, I64(LANES))) as index:
        place = row(builder, target, index)
        added = factor * load(builder, row(builder, source, index), DOUBLE_VECTOR)
        (load(builder, place, DOUBLE_VECTOR) + added).store(place)


@inlined
def spread(constants: Constants, scratch: Scratch) -> None:
    """Write the bins of the spectrum whose bands are those of the mel.

    They start as the mean density of the bands around each bin.
    """
    ranges, spectrum = constants.ranges, scratch.spectrum.ctypes.data
    factor, total = scratch.factor.ctypes.data, constants.total.ctypes.data
    for index in range(len(scratch.spectrum)):
        for s in range(LANES):
            scratch.spectrum[index, s] = 1.0
    for step in range(constants.iterations + 1):
        for band in range(len(ranges)):
            first, count = ranges[band, 0], ranges[band, 1] - ranges[band, 0]
            weights = constants.bank.ctypes.data + 8 * (band * len(constants.total) + first)
            mel, offset = scratch.mel.ctypes.data + ROW_BYTES * band, ROW_BYTES * first
            if step == 0:
                add_band(factor + offset, weights, mel, count, constants.density[band])
            else:
                bins = spectrum + offset
                compare_band(factor + offset, bins, weights, mel, count, constants.tiny)
        multiply_bins(spectrum, factor, total, len(constants.total))


@inlined
def undo_logarithm(frames: Array, first: int, count: int, constants: Constants, mel: Array) -> None:
    """Write the bands of `count` frames, from `first` on."""
    limit = constants.log_range
    for s in range(LANES):
        for band in range(len(mel)):
            frame = first + int_min(s, count - 1)  # the last one fills up
            log = frames[frame, band] * constants.std[band] + constants.mean[band]
            mel[band, s] = math.exp(clamp(log * constants.log_unit, -limit, limit))


@inlined
def autocorrelate(frames: Array, constants: Constants, scratch: Scratch) -> None:
    """Write the autocorrelation of each frame of `(F + 1, n_mels)`, but for its scale."""
    lags, r = constants.cosines.shape[1], scratch.r.ctypes.data
    for first in range(0, len(frames), LANES):
        count = int_min(LANES, len(frames) - first)
        undo_logarithm(frames, first, count, constants, scratch.mel)
        spread(constants, scratch)
        for index in range(len(constants.cosines)):  # reading the cosines takes longest
            cosines = constants.cosines.ctypes.data + 8 * lags * index
            for s in range(count):
                power = scratch.spectrum[constants.nearest[index], s] ** constants.exponent
                add_scaled(r + 8 * lags * (first + s), cosines, lags, power)


def solve_frames(
    frames: Array, constants: Constants, scratch: Scratch, rows: NDArray[np.float32]
) -> None:
    """Compute the rows of all sub-frames, `(F * subframes, order + 1)`, of `(F + 1, n_mels)`."""
    subframes, lags = constants.subframes, rows.shape[1]
    r, between, a, error = scratch.r, scratch.between, scratch.a, scratch.error
    autocorrelate(frames, constants, scratch)
    for frame in range(len(frames)):
        scale = 1 / at_least(r[frame, 0], 1.0)
        for lag in range(lags):
            r[frame, lag] *= scale
        r[frame, 0] += constants.rounding_variance
    for first in range(0, len(rows), LANES):
        for column in range(LANES):
            number = int_min(first + column, len(rows) - 1)  # the last one fills up
            frame, part = number // subframes, number % subframes
            share = (part + 0.5) / subframes
            for lag in range(lags):
                between[lag, column] = r[frame, lag] + share * (r[frame + 1, lag] - r[frame, lag])
        solve(between.ctypes.data, a.ctypes.data, error.ctypes.data, lags - 1)
        for column in range(int_min(LANES, len(rows) - first)):
            write_row(a, error, column, constants.rounding, rows[first + column])


@lru_cache
def _solver() -> Any:
    kernel = compiled(solve_frames, counts_references=False)
    name = "predictor-coefficients"
    set_cache(kernel, KernelCache(name, private_folder(), SOURCES))
    return kernel


@wraps(coefficients)
def cpu_coefficients(predictor: MelPredictor, frames: Tensor) -> Tensor:
    """Return `coefficients(predictor, frames)`; on other devices PyTorch computes it."""
    if type(frames) is not Tensor or frames.device.type != "cpu":
        return coefficients(predictor, frames)
    count = (frames.shape[1] - 1) * predictor.subframes
    items, shape = frames.double().contiguous().numpy(), (len(frames), count, predictor.num_rows)
    rows = np.empty(shape, np.float32)
    solver, constants = _solver(), _constants(predictor.config)
    with nullcontext() if solver.signatures else compiling():
        for item, own_rows in zip(items, rows, strict=True):
            solver(item, constants, _scratch(constants, len(item), predictor.order), own_rows)
    return torch.from_numpy(rows)


def has_other_constants(predictor: MelPredictor) -> bool:
    """Return whether buffers of a predictor are not those of its config."""
    wanted = dict(_standard(predictor.config).named_buffers())
    return any(not torch.equal(wanted[name], own.cpu()) for name, own in predictor.named_buffers())


@lru_cache
def _standard(config: PredictorConfig) -> MelPredictor:
    return MelPredictor(config)


@lru_cache
def _constants(config: PredictorConfig) -> Constants:
    predictor = _standard(config)
    bank, zeros = predictor.bank.numpy(), np.zeros(predictor.n_mels)
    used, cosines = bank > 0, predictor.cosines.numpy()
    ranges = np.stack([used.argmax(axis=1), bank.shape[1] - used[:, ::-1].argmax(axis=1)], axis=1)
    ranges[~used.any(axis=1)] = 0
    return Constants(
        bank=bank,
        ranges=ranges.astype(np.int64),
        total=bank.sum(axis=0).clip(min=TINY),
        density=predictor.density.numpy(),
        nearest=predictor.nearest.numpy(),
        cosines=np.pad(cosines, ((0, 0), (0, -cosines.shape[1] % LANES))),
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


def _scratch(constants: Constants, num_frames: int, order: int) -> Scratch:
    n_mels, bins = constants.bank.shape
    return Scratch(
        mel=np.empty((n_mels, LANES)),
        spectrum=np.empty((bins, LANES)),
        factor=np.zeros((bins, LANES)),
        r=np.zeros((num_frames, constants.cosines.shape[1])),
        between=np.empty((order + 1, LANES)),
        a=np.empty((order, LANES)),
        error=np.empty(LANES),
    )
