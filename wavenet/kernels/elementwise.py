"""What the kernel does to vectors between its matrix products.

All take addresses, and counts that are multiples of sixteen.
"""

from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from wavenet.kernels.compiler import ADDRESS, Builder, Value, emitted
from wavenet.kernels.matmul import SHORT_BITS, SHORT_LIMIT
from wavenet.kernels.vectors import (
    I1,
    I16,
    I64,
    LANES,
    POINTER,
    Vector,
    constant,
    exp,
    expm1,
    function,
    load,
    pointer,
    spread,
    vectors,
)


@emitted(types.void, ADDRESS, ADDRESS, types.int64)
def copy(builder: Builder, target: Value, source: Value, size: Value) -> None:
    """Copy bytes; the places may overlap."""
    arguments = (POINTER, POINTER, I64, I1)
    move = function(builder, "llvm.memmove.p0.p0.i64", ir.VoidType(), *arguments)
    builder.call(move, [pointer(builder, target), pointer(builder, source), size, I1(0)])


@emitted(types.void, ADDRESS, ADDRESS, types.int64)
def add(builder: Builder, y: Value, x: Value, count: Value) -> None:
    """Make y += x."""
    with vectors(builder, count) as at:
        here = builder.add(y, at)
        (load(builder, here) + load(builder, builder.add(x, at))).store(here)


@emitted(types.void, ADDRESS, types.float32, ADDRESS, types.int64)
def scale_add(builder: Builder, y: Value, scale: Value, x: Value, count: Value) -> None:
    """Make y = y * scale + x."""
    factor = spread(builder, scale)
    with vectors(builder, count) as at:
        here = builder.add(y, at)
        load(builder, here).fma(factor, load(builder, builder.add(x, at))).store(here)


@emitted(types.void, ADDRESS, ADDRESS, types.int64)
def relu(builder: Builder, y: Value, x: Value, count: Value) -> None:
    """Make y = max(x, 0)."""
    with vectors(builder, count) as at:
        load(builder, builder.add(x, at)).maximum(0.0).store(builder.add(y, at))


@emitted(types.void, ADDRESS, ADDRESS, types.int64)
def gate(builder: Builder, z: Value, h: Value, count: Value) -> None:
    """Make z = tanh(first half of h) * sigmoid(second half).

    With m = e^-2a - 1, tanh(a) = -m / (2 + m) to the last digits of small numbers too; sigmoid(b) =
    1 / (1 + e^-b). One division for both.
    """
    half = builder.mul(count, I64(4))
    one = constant(builder, 1.0)
    with vectors(builder, count) as at:
        a = load(builder, builder.add(h, at)).clamp(-20.0, 20.0)
        b = load(builder, builder.add(builder.add(h, half), at)).clamp(-60.0, 60.0)
        fade, fall = expm1(a * -2.0), exp(b * -1.0)
        (fade * -1.0 / ((fade + 2.0) * (one + fall))).store(builder.add(z, at))


@lru_cache
def encode_of(precision: str) -> Any:
    """Return compiled code `encode(row, x, count)`: it writes floats as the products read them."""

    @emitted(types.void, ADDRESS, ADDRESS, types.int64)
    def encode(builder: Builder, row: Value, x: Value, count: Value) -> None:
        if precision == "int8":
            _encode_shorts(builder, row, x, count)
            return
        with vectors(builder, count) as at:
            here = load(builder, builder.add(x, at))
            if precision == "float32":
                here.store(builder.add(row, at))
            else:
                bits = here.bits()
                rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, even of two
                _store_halves(builder, rounded, row, at)

    return encode


def _encode_shorts(builder: Builder, row: Value, x: Value, count: Value) -> None:
    """Write whole numbers and, behind them, the power of two that the row is multiples of."""
    cell = cgutils.alloca_once_value(builder, constant(builder, 0.0).value)
    with vectors(builder, count) as at:
        size = load(builder, builder.add(x, at)).absolute()
        builder.store(size.maximum(Vector(builder, builder.load(cell))).value, cell)
    peak = Vector(builder, builder.load(cell)).fold(Vector.maximum)
    power = (spread(builder, peak).clamp(2.0**-60, 2.0**60).bits() & 0x7F800000).floats()
    unit = power * 2.0 ** (1 - SHORT_BITS)
    inverse = constant(builder, 1.0) / unit
    with vectors(builder, count) as at:
        scaled = (load(builder, builder.add(x, at)) * inverse).round()
        _store_halves(builder, scaled.clamp(-SHORT_LIMIT, SHORT_LIMIT).to_ints(), row, at)
    unit.store(builder.add(row, builder.mul(count, I64(2))))


def _store_halves(builder: Builder, ints: Vector, row: Value, at: Value) -> None:
    """Write the low halves of sixteen integers; `at` bytes of floats have gone before."""
    place = builder.add(row, builder.ashr(at, I64(1)))
    shorts = builder.trunc(ints.value, ir.VectorType(I16, LANES))
    builder.store(shorts, pointer(builder, place), align=2)
