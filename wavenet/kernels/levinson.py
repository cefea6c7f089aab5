"""Levinson's recursion for CPUs: `wavenet.linear_predictor.levinson` for sixteen rows at once.

Each column is computed by itself in a fixed order, so bits do not depend on the others.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from wavenet.kernels.compiler import ADDRESS, Builder, Value, inlined, llvm_function
from wavenet.kernels.scalars import clamp, nearest
from wavenet.kernels.vectors import (
    DOUBLE_VECTOR,
    I64,
    LANES,
    Variable,
    Vector,
    constant,
    for_range,
    load,
)
from wavenet.utils.shared_constants import COEFFICIENT_STEP, MAX_COEFFICIENT

Array = NDArray[np.float64]
ROW_BYTES = 8 * LANES


class Rounding(NamedTuple):
    """How coefficients are rounded.

    The numbers are arguments of kernels, for the cache of compiled code knows the sources of this
    folder alone.
    """

    step: float = COEFFICIENT_STEP
    max_coefficient: float = MAX_COEFFICIENT


@llvm_function(types.void, ADDRESS, ADDRESS, ADDRESS, types.int64)
def solve(builder: Builder, r: Value, a: Value, error: Value, order: Value) -> None:
    """Compute predictors and errors of autocorrelations, each column by itself.

    Args:
        builder: Receives the instructions.
        r: Address of the autocorrelations by lag, `(order + 1, LANES)`.
        a: Of the coefficients to be filled, from the newest to the oldest sample, `(order, LANES)`.
        error: Of the powers of the residuals to be filled, `(LANES,)`.
        order: Number of coefficients.
    """
    power = Variable(load(builder, r, DOUBLE_VECTOR))
    one = constant(builder, 1.0, DOUBLE_VECTOR)
    with for_range(builder, order) as lag:
        following = load(builder, row(builder, r, builder.add(lag, I64(1))), DOUBLE_VECTOR)
        reflection = (following - explained(builder, a, r, lag)) / power.get()
        power.set(power.get() * (one - reflection * reflection))
        reflect(builder, a, lag, reflection)
        reflection.store(row(builder, a, lag))
    power.get().store(error)


def explained(builder: Builder, a: Value, r: Value, lag: Value) -> Vector:
    """Return what `lag` coefficients explain of the next lag, the sum of `a[tap] r[lag - tap]`."""
    total = Variable(constant(builder, 0.0, DOUBLE_VECTOR))
    last = row(builder, r, lag)
    with for_range(builder, lag) as tap:
        offset = builder.mul(tap, I64(ROW_BYTES))
        known = load(builder, builder.sub(last, offset), DOUBLE_VECTOR)
        total.set(total.get() + load(builder, builder.add(a, offset), DOUBLE_VECTOR) * known)
    return total.get()


def reflect(builder: Builder, a: Value, lag: Value, factor: Vector) -> None:
    """Subtract from `lag` coefficients the reflected ones times the factor."""
    half = builder.sdiv(builder.add(lag, I64(1)), I64(2))
    with for_range(builder, half) as tap:
        places = row(builder, a, tap), row(builder, a, builder.sub(builder.sub(lag, I64(1)), tap))
        first, last = (load(builder, place, DOUBLE_VECTOR) for place in places)
        (first - factor * last).store(places[0])
        (last - factor * first).store(places[1])


def row(builder: Builder, rows: Value, index: Value) -> Value:
    """Return the address of a row of doubles."""
    return builder.add(rows, builder.mul(index, I64(ROW_BYTES)))


@inlined
def write_row(
    a: Array, error: Array, column: int, rounding: Rounding, row: NDArray[np.float32]
) -> None:
    """Write the rounded coefficients of a column of `solve`, and the scale of its residual."""
    order, limit = len(a), rounding.max_coefficient
    for tap in range(order):
        bounded = clamp(a[order - 1 - tap, column], -limit, limit)
        row[tap] = nearest(bounded / rounding.step) * rounding.step
    row[order] = math.sqrt(error[column])
