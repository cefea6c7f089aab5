"""The coefficients of a linear predictor from past samples for CPUs, compiled by Numba.

They have the bits of `wavenet.past_predictor.past_coefficients`. `cpu_predictors.py` gives them to
the predictor in PyTorch, the sampler's kernel calls `solve_past`.
"""

from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from wavenet.kernels.annotations import numba_type
from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.cache import KernelCache
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
from wavenet.kernels.private_files import private_folder
from wavenet.kernels.references import Reference
from wavenet.kernels.scalars import int_min
from wavenet.kernels.sources import SOURCES
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

Integers = NDArray[np.int32]


class PastConstants(NamedTuple):
    """Numbers of a `PastPredictor`."""

    weights: Annotated[Integers, 1]  # of a window's samples, after zeros to a multiple of LANES
    factors: Annotated[Array, 1]  # (order + 1,)
    interval: int
    noise_variance: float
    rounding: Rounding


class PastSolver(NamedTuple):
    """Memory of each stream of a sampler for solving."""

    windowed: Annotated[Integers, 2]  # (streams, len(weights) + padding that ends with zeros)
    r: Annotated[Array, 3]  # (streams, order + 1, LANES)
    a: Annotated[Array, 3]  # (streams, order, LANES)
    error: Annotated[Array, 2]  # (streams, LANES)
    rows: Annotated[NDArray[np.float32], 2]  # (streams, order + 1): the result


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
    r, a, error = np.empty((lags, LANES)), np.empty((lags - 1, LANES)), np.empty(LANES)
    for first in range(0, len(rows), LANES):
        for column in range(LANES):
            number = int_min(first + column, len(rows) - 1)  # the last one fills up
            address = samples.ctypes.data + 4 * number * constants.interval
            autocorrelate_past(address, constants, windowed, r, column)
        solve(r.ctypes.data, a.ctypes.data, error.ctypes.data, lags - 1)
        for column in range(int_min(LANES, len(rows) - first)):
            write_row(a, error, column, constants.rounding, rows[first + column])


def _solve_past(
    samples: Address, constants: PastConstants, solver: PastSolver, stream: int
) -> None:
    """Compute the row of a stream, whose last samples are at an address."""
    r, a, error = solver.r[stream], solver.a[stream], solver.error[stream]
    autocorrelate_past(samples, constants, solver.windowed[stream], r, 0)
    for lag in range(len(r)):
        for column in range(1, LANES):
            r[lag, column] = r[lag, 0]
    solve(r.ctypes.data, a.ctypes.data, error.ctypes.data, len(a))
    write_row(a, error, 0, constants.rounding, solver.rows[stream])


@lru_cache
def windows_solver() -> Any:
    """Return `solve_windows` compiled, with its cache."""
    kernel = compiled(solve_windows)
    name = "past-coefficients"
    set_cache(kernel, KernelCache(name, private_folder(), SOURCES))
    return kernel


SOLVE_PAST = types.void(
    ADDRESS,
    Reference(numba_type(PastConstants)),
    Reference(numba_type(PastSolver)),
    types.int64,
)
solve_past = FunctionByAddress(_solve_past, SOLVE_PAST, "solve-past", SOURCES)
