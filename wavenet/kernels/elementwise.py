"""Elementwise operations on rows of float32, between the matrix products of the sampling kernel.

All take addresses, and counts that are multiples of sixteen.
"""

from functools import lru_cache

from llvmlite import ir
from numba import types

from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.compiler import ADDRESS, Address, Builder, Value, llvm_function
from wavenet.kernels.matmul import ACTIVATION_BITS, ACTIVATION_LIMIT
from wavenet.kernels.sources import SOURCES
from wavenet.kernels.vectors import (
    I1,
    I16,
    I64,
    LANES,
    Variable,
    Vector,
    bfloat16_bits,
    broadcast,
    call_llvm,
    constant,
    exp,
    expm1,
    load,
    pointer,
    vector_offsets,
)


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64)
def copy(builder: Builder, target: Value, source: Value, size: Value) -> None:
    """Copy `size` bytes; source and target may overlap."""
    places = pointer(builder, target), pointer(builder, source)
    call_llvm(builder, "llvm.memmove.p0.p0.i64", ir.VoidType(), *places, size, I1(0))


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64)
def add(builder: Builder, y: Value, x: Value, count: Value) -> None:
    """Compute y += x."""
    with vector_offsets(builder, count) as offset:
        target = builder.add(y, offset)
        (load(builder, target) + load(builder, builder.add(x, offset))).store(target)


@llvm_function(types.void, ADDRESS, types.float32, ADDRESS, types.int64)
def scale_add(builder: Builder, y: Value, scale: Value, x: Value, count: Value) -> None:
    """Compute y = y * scale + x."""
    factor = broadcast(builder, scale)
    with vector_offsets(builder, count) as offset:
        target = builder.add(y, offset)
        load(builder, target).fma(factor, load(builder, builder.add(x, offset))).store(target)


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64)
def relu(builder: Builder, y: Value, x: Value, count: Value) -> None:
    """Compute y = max(x, 0)."""
    with vector_offsets(builder, count) as offset:
        load(builder, builder.add(x, offset)).maximum(0.0).store(builder.add(y, offset))


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64)
def gate(builder: Builder, z: Value, h: Value, count: Value) -> None:
    """Compute z = tanh(first half of h) * sigmoid(second half).

    With m = e^-2a - 1, tanh(a) = -m / (2 + m), exact for small numbers too; sigmoid(b) = 1 / (1 +
    e^-b). Both share one division.
    """
    half = builder.mul(count, I64(4))
    one = constant(builder, 1.0)
    with vector_offsets(builder, count) as offset:
        a = load(builder, builder.add(h, offset)).clamp(-20.0, 20.0)
        b = load(builder, builder.add(builder.add(h, half), offset)).clamp(-60.0, 60.0)
        m, decay = expm1(a * -2.0), exp(b * -1.0)
        (m * -1.0 / ((m + 2.0) * (one + decay))).store(builder.add(z, offset))


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64, types.float32)
def guide(
    builder: Builder, params: Value, unconditional: Value, count: Value, guidance_scale: Value
) -> None:
    """Apply classifier-free guidance to `params`; equal numbers, infinite ones too, stay."""
    scale = broadcast(builder, guidance_scale)
    with vector_offsets(builder, count) as offset:
        own = load(builder, builder.add(params, offset))
        other = load(builder, builder.add(unconditional, offset))
        equal = builder.fcmp_ordered("==", own.value, other.value)
        own.select(equal, other + scale * (own - other)).store(builder.add(params, offset))


ENCODE = types.void(types.int64, types.int64, types.int64)


@lru_cache
def make_encode(weight_dtype: str) -> FunctionByAddress:
    """Return `encode(row, x, count)`, of signature `ENCODE`: floats as products read them."""

    @llvm_function(types.void, ADDRESS, ADDRESS, types.int64)
    def write(builder: Builder, row: Value, x: Value, count: Value) -> None:
        if weight_dtype == "int8":
            _encode_int16(builder, row, x, count)
            return
        with vector_offsets(builder, count) as offset:
            values = load(builder, builder.add(x, offset))
            if weight_dtype == "float32":
                values.store(builder.add(row, offset))
            else:
                _store_low_halves(builder, bfloat16_bits(values), row, offset)

    def encode(row: Address, x: Address, count: int) -> None:
        write(row, x, count)

    return FunctionByAddress(encode, ENCODE, f"encode-{weight_dtype}", SOURCES)


def _encode_int16(builder: Builder, row: Value, x: Value, count: Value) -> None:
    """Write 16-bit integers and, after them, their scale: a power of two that fits the row."""
    peaks = Variable(constant(builder, 0.0))
    with vector_offsets(builder, count) as offset:
        peaks.set(load(builder, builder.add(x, offset)).absolute().maximum(peaks.get()))
    peak = broadcast(builder, peaks.get().reduce(Vector.maximum))
    power = (peak.clamp(2.0**-60, 2.0**60).bits_as_ints() & 0x7F800000).bits_as_floats()
    scale = power * 2.0 ** (1 - ACTIVATION_BITS)
    inverse = constant(builder, 1.0) / scale
    with vector_offsets(builder, count) as offset:
        scaled = (load(builder, builder.add(x, offset)) * inverse).round()
        integers = scaled.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT).to_ints()
        _store_low_halves(builder, integers, row, offset)
    scale.store(builder.add(row, builder.mul(count, I64(2))))


def _store_low_halves(builder: Builder, ints: Vector, row: Value, offset: Value) -> None:
    """Store the low halves of sixteen integers; `offset` is that of the floats, in bytes."""
    place = builder.add(row, builder.ashr(offset, I64(1)))
    shorts = builder.trunc(ints.value, ir.VectorType(I16, LANES))
    builder.store(shorts, pointer(builder, place), align=2)
