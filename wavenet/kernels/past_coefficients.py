"""The coefficients of a linear predictor from past samples for CPUs, compiled by Numba.

The counterpart of `wavenet.past_predictor.past_coefficients`, with the same bits.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import typeof, types
from numpy.typing import NDArray
from torch import Tensor

from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.cache import SOURCES, KernelCache
from wavenet.kernels.compiler import (
    ADDRESS,
    Address,
    Builder,
    Value,
    compiled,
    inlined,
    llvm_function,
    set_cache,
)
from wavenet.kernels.levinson import Array, Rounding, solve, write_row
from wavenet.kernels.predictor_coefficients import cpu_coefficients
from wavenet.kernels.private_files import private_folder
from wavenet.kernels.references import Reference
from wavenet.kernels.vectors import (
    INT_VECTOR,
    LANES,
    LONG_VECTOR,
    Variable,
    Vector,
    constant,
    load,
    vector_offsets,
)
from wavenet.linear_predictor import LinearPredictor
from wavenet.mel_predictor import MelPredictor
from wavenet.past_predictor import (
    NOISE_VARIANCE,
    SAMPLE_UNITS,
    PastPredictor,
    past_coefficients,
)

Integers = NDArray[np.int32]


class PastConstants(NamedTuple):
    """Numbers of a `PastPredictor`."""

    weights: Integers  # of a window's samples; zeros before them to a multiple of LANES
    factors: Array  # (order + 1,)
    interval: int
    noise_variance: float
    rounding: Rounding


class PastSolver(NamedTuple):
    """Memory of each stream of a sampler for solving."""

    windowed: Integers  # (streams, len(weights) + padding that ends with zeros)
    r: Array  # (streams, order + 1, LANES)
    a: Array  # (streams, order, LANES)
    sums: Array  # (streams, 2, LANES): error and reflection
    rows: NDArray[np.float32]  # (streams, order + 1): the result


@llvm_function(types.int64, ADDRESS, ADDRESS, types.int64)
def integer_dot(builder: Builder, x: Value, y: Value, count: Value) -> Value:
    """Return the sum of the products of 32-bit integers; `count` is a multiple of sixteen."""
    total = Variable(constant(builder, 0, LONG_VECTOR))
    with vector_offsets(builder, count) as offset:
        factors = [
            builder.sext(load(builder, builder.add(base, offset), INT_VECTOR).value, LONG_VECTOR)
            for base in (x, y)
        ]
        total.set(Vector(builder, builder.add(total.get().value, builder.mul(*factors))))
    return total.get().reduce(lambda a, b: Vector(builder, builder.add(a.value, b.value)))


@llvm_function(types.void, ADDRESS, ADDRESS, ADDRESS, types.int64)
def integer_products(builder: Builder, x: Value, y: Value, target: Value, count: Value) -> None:
    """Store the products of 32-bit integers; `count` is a multiple of sixteen."""
    with vector_offsets(builder, count) as offset:
        factors = [load(builder, builder.add(base, offset), INT_VECTOR) for base in (x, y)]
        (factors[0] * factors[1]).store(builder.add(target, offset))


@inlined
def autocorrelate_past(
    samples: Address, constants: PastConstants, windowed: Integers, r: Array, column: int
) -> None:
    """Write the autocorrelation of a window into a column of `r`, `(order + 1, LANES)`.

    Args:
        samples: Address of the first of its samples, 16-bit numbers in 32 bits.
        constants: The predictor's.
        windowed: Scratch memory, `(len(weights) + order,)`, that ends with zeros.
        r: To be filled.
        column: Which.
    """
    count, place = len(constants.weights), windowed.ctypes.data
    integer_products(samples, constants.weights.ctypes.data, place, count)
    for lag in range(len(constants.factors)):
        total = integer_dot(place, place + 4 * lag, count)
        r[lag, column] = np.float64(total) * constants.factors[lag]
    r[0, column] += constants.noise_variance


def solve_windows(samples: Integers, constants: PastConstants, rows: NDArray[np.float32]) -> None:
    """Compute the rows of successive windows, `(count, order + 1)`.

    Args:
        samples: Those of all windows, `(len(weights) + (count - 1) * interval,)`.
        constants: The predictor's.
        rows: To be filled.
    """
    lags = len(constants.factors)
    windowed = np.zeros(len(constants.weights) + lags, np.int32)
    r, a = np.empty((lags, LANES)), np.empty((lags - 1, LANES))
    error, reflection = np.empty(LANES), np.empty(LANES)
    for first in range(0, len(rows), LANES):
        for column in range(LANES):
            number = min(first + column, len(rows) - 1)  # the last one fills up
            address = samples.ctypes.data + 4 * number * constants.interval
            autocorrelate_past(address, constants, windowed, r, column)
        solve(r, a, error, reflection)
        for column in range(min(LANES, len(rows) - first)):
            write_row(a, error, column, constants.rounding, rows[first + column])


def _solve_past(
    samples: Address, constants: PastConstants, solver: PastSolver, stream: int
) -> None:
    """Compute the row of a stream, whose last samples are at an address."""
    r, a, sums = solver.r[stream], solver.a[stream], solver.sums[stream]
    autocorrelate_past(samples, constants, solver.windowed[stream], r, 0)
    for lag in range(len(r)):
        for column in range(1, LANES):
            r[lag, column] = r[lag, 0]
    solve(r, a, sums[0], sums[1])
    write_row(a, sums[0], 0, constants.rounding, solver.rows[stream])


@lru_cache
def _solver() -> Any:
    kernel = compiled(solve_windows)
    name = "past-coefficients"
    set_cache(kernel, KernelCache(name, private_folder(), SOURCES))
    return kernel


def cpu_past_coefficients(predictor: PastPredictor, waveform: Tensor, count: int) -> Tensor:
    """Return `past_coefficients` of the arguments; on other devices PyTorch computes it."""
    if type(waveform) is not Tensor or waveform.device.type != "cpu":
        return past_coefficients(predictor, waveform, count)
    constants = past_constants(predictor)
    padding = len(constants.weights) - predictor.memory
    rows = np.empty((len(waveform), count, predictor.num_rows), np.float32)
    integers = (waveform.double() * SAMPLE_UNITS).round().to(torch.int32)
    padded = torch.nn.functional.pad(integers, (padding, 0)).numpy()
    for item, own_rows in zip(padded, rows, strict=True):
        _solver()(item, constants, own_rows)
    return torch.from_numpy(rows)


def past_constants(predictor: LinearPredictor | None) -> PastConstants:
    """Return the constants of a predictor for the kernels; of none for another kind."""
    if not isinstance(predictor, PastPredictor):
        return PastConstants(np.zeros(0, np.int32), np.zeros(1), 0, 0.0, Rounding())
    weights = predictor.weights.cpu().numpy().astype(np.int32)
    padding = -len(weights) % LANES
    return PastConstants(
        weights=np.concatenate([np.zeros(padding, np.int32), weights]),
        factors=predictor.factors.cpu().numpy(),
        interval=predictor.interval,
        noise_variance=NOISE_VARIANCE,
        rounding=Rounding(),
    )


_memory = np.zeros((0, 0, 0))
_solver_of_none = PastSolver(
    np.zeros((0, 0), np.int32), _memory, _memory, _memory, np.zeros((0, 0), np.float32)
)
SOLVE_PAST = types.void(
    ADDRESS,
    Reference(typeof(past_constants(None))),
    Reference(typeof(_solver_of_none)),
    types.int64,
)
solve_past = FunctionByAddress(_solve_past, SOLVE_PAST, "solve-past", SOURCES)


def use_compiled_coefficients(predictor: LinearPredictor) -> None:
    """Let a predictor's coefficients be computed by compiled code where it is on a CPU."""
    if isinstance(predictor, MelPredictor):
        predictor.coefficients = cpu_coefficients
    elif isinstance(predictor, PastPredictor):
        predictor.coefficients = cpu_past_coefficients
