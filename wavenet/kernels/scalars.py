"""Single numbers in compiled code: in memory, the larger of two, polynomials.

Python's `min`, `max` and `int`, and a loop over a tuple, would be compiled for every caller.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from wavenet.kernels.compiler import ADDRESS, Builder, Value, llvm_function
from wavenet.kernels.vectors import I32, I64, call_llvm, load_scalar, pointer

F64 = ir.DoubleType()


@llvm_function(types.float32, ADDRESS)
def float_at(builder: Builder, address: Value) -> Value:
    """Return the float at an address."""
    return load_scalar(builder, address)


@llvm_function(types.int32, ADDRESS)
def int_at(builder: Builder, address: Value) -> Value:
    """Return the 32-bit integer at an address."""
    return load_scalar(builder, address, I32)


@llvm_function(types.void, ADDRESS, types.float32)
def store_float(builder: Builder, address: Value, number: Value) -> None:
    """Write a float."""
    builder.store(number, pointer(builder, address), align=4)


@llvm_function(types.void, ADDRESS)
def store_zero(builder: Builder, address: Value) -> None:
    """Write a 32-bit 0."""
    builder.store(I32(0), pointer(builder, address), align=4)


@llvm_function(types.int64, types.int64, types.int64)
def int_min(builder: Builder, a: Value, b: Value) -> Value:
    """Return the smaller integer."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


@llvm_function(types.int64, types.int64, types.int64)
def int_max(builder: Builder, a: Value, b: Value) -> Value:
    """Return the larger integer."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


@llvm_function(types.float64, types.float64, types.float64)
def at_least(builder: Builder, number: Value, low: Value) -> Value:
    """Return the larger number; NaN stays."""
    return builder.select(builder.fcmp_ordered("<", number, low), low, number)


@llvm_function(types.float64, types.float64, types.float64, types.float64)
def clamp(builder: Builder, number: Value, low: Value, high: Value) -> Value:
    """Return a number clamped to `low` and `high`; NaN stays."""
    number = builder.select(builder.fcmp_ordered("<", number, low), low, number)
    return builder.select(builder.fcmp_ordered(">", number, high), high, number)


@llvm_function(types.float64, types.float64)
def nearest(builder: Builder, number: Value) -> Value:
    """Return the nearest whole number; ties go to even ones."""
    return call_llvm(builder, "llvm.rint.f64", F64, number)


@llvm_function(types.int64, types.float64)
def to_int(builder: Builder, number: Value) -> Value:
    """Return a float without fraction as an integer."""
    return builder.fptosi(number, I64)


def rational(numerator: Sequence[float], denominator: Sequence[float]) -> Any:
    """Return a compiled function of `x`: the ratio of two polynomials, highest power first."""

    @llvm_function(types.float64, types.float64)
    def ratio(builder: Builder, x: Value) -> Value:
        values = []
        for coefficients in (numerator, denominator):
            total = F64(coefficients[0])
            for coefficient in coefficients[1:]:
                total = builder.fadd(builder.fmul(total, x), F64(coefficient))
            values.append(total)
        return builder.fdiv(*values)

    return ratio
