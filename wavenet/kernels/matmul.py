"""Matrix products with few rows, in three precisions of the weights.

`y += W x` for one row `x` or for many: streams of a batch, or samples of one stream. Sums stay in
registers while the weights go by once, a register of outputs at a time; six rows share what was
loaded where the machine has registers enough.

Packed, a matrix is blocks of 64, 32 or 16 outputs. A narrow block takes several inputs at once, so
that 64 sums are always under way: as many as hide the latency of a fused multiply-add. Which sums
there are depends on the block alone and not on the rows, so a row comes out the same in any
company.

    float32   weights and activations are 32-bit floats
    bfloat16  both are rounded to 8 bits of mantissa; pairs of products are summed in float32
    int8      weights are integers of 8 bits with a scale an output, activations of 14 bits with a
              scale a row; sums are exact in 32 bits
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from wavenet.kernels.compiler import Address, Builder, Value, compiled, emitted, features
from wavenet.kernels.vectors import (
    BYTES,
    F32,
    FLOATS,
    I16,
    I32,
    I64,
    INTS,
    LANES,
    BFloat,
    Vector,
    call,
    constant,
    load,
    load_one,
    pointer,
    spread,
)

PRECISIONS = ("float32", "bfloat16", "int8")
BLOCK = 64  # sums under way
WIDTHS = (64, 32, 16)  # outputs of a block
SHORT_BITS = 13  # of an activation, without its sign
SHORT_LIMIT = 2**SHORT_BITS - 1  # 127 * SHORT_LIMIT * PIECE fits in 32 bits
PIECE = 2048  # inputs summed before the sum is brought home
WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
INPUT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 2}
AT_ONCE = {"float32": 1, "bfloat16": 2, "int8": 2}  # inputs that one instruction multiplies
SCALE_BYTES = 64  # an int8 row ends with its scale


def rows_at_once() -> tuple[int, ...]:
    """Return how many rows may share the weights that were loaded, the most first."""
    return (6, 4, 2, 1) if "avx512f" in features() else (1,)


def row_bytes(width: int, precision: str) -> int:
    """Return the size of an encoded row of activations."""
    return width * INPUT_BYTES[precision] + (SCALE_BYTES if precision == "int8" else 0)


@dataclass(frozen=True)
class Packed:
    """A matrix in the order in which products read it.

    Attributes:
        weights: float32, uint16 (bfloat16's bits) or int8; one dimension.
        scales: float32, one an output; empty but for int8.
    """

    weights: NDArray[Any]
    scales: NDArray[np.float32]


def pack(matrix: NDArray[np.float32], precision: str) -> Packed:
    """Return a matrix packed for products.

    Args:
        matrix: `(outputs, inputs)`, both multiples of 16.
        precision: One of `PRECISIONS`.
    """
    scales = np.empty(0, np.float32)
    values: NDArray[Any] = np.ascontiguousarray(matrix, np.float32)
    if precision == "bfloat16":
        values = to_bfloat16(values)
    elif precision == "int8":
        scales = np.abs(values).max(axis=1) / np.float32(127)
        values = np.rint(values / np.maximum(scales, 1e-30)[:, None]).astype(np.int8)
    outputs, inputs = values.shape
    blocks, first = [], 0
    while first < outputs:
        width = next(width for width in WIDTHS if first + width <= outputs)
        chains, pair = BLOCK // width, AT_ONCE[precision]
        block = values[first : first + width].reshape(
            width, inputs // (chains * pair), chains, pair
        )
        blocks.append(block.transpose(1, 2, 0, 3).ravel())
        first += width
    return Packed(np.concatenate(blocks), scales)


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16, the even one of two."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def encode_rows(values: NDArray[np.float32], precision: str) -> NDArray[np.uint8]:
    """Return rows of activations as the products read them, `(..., row_bytes)`.

    Args:
        values: `(..., width)`, the width a multiple of 16.
        precision: One of `PRECISIONS`.
    """
    values = np.ascontiguousarray(values)
    if precision == "float32":
        return values.view(np.uint8)
    if precision == "bfloat16":
        return to_bfloat16(values).view(np.uint8)
    peak = np.abs(values).max(axis=-1, keepdims=True).clip(2.0**-60, 2.0**60)
    unit = np.ldexp(np.float32(1), np.frexp(peak)[1] - SHORT_BITS).astype(np.float32)
    shorts = np.rint(values / unit).clip(-SHORT_LIMIT, SHORT_LIMIT).astype(np.int16)
    scales = np.repeat(unit, SCALE_BYTES // 4, axis=-1)
    return np.concatenate([shorts.view(np.uint8), scales.view(np.uint8)], axis=-1)


def decode_rows(rows: NDArray[np.uint8], width: int, precision: str) -> NDArray[np.float32]:
    """Return the float32 that rows of activations stand for, `(..., width)`."""
    rows = np.ascontiguousarray(rows)
    if precision == "float32":
        return rows.view(np.float32)
    if precision == "bfloat16":
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    shorts = np.ascontiguousarray(rows[..., : 2 * width]).view(np.int16)
    unit = np.ascontiguousarray(rows[..., 2 * width : 2 * width + 4]).view(np.float32)
    return shorts.astype(np.float32) * unit


# What each precision loads, multiplies and brings home.


def _weights(builder: Builder, precision: str, address: Value, index: int) -> Value:
    """Return sixteen outputs' weights, the `index`-th of a block's row."""
    if precision == "int8":
        place = builder.add(address, I64(index * LANES * 2))
        bytes_ = builder.load(
            pointer(builder, place), typ=ir.VectorType(ir.IntType(8), 32), align=1
        )
        return builder.bitcast(builder.sext(bytes_, ir.VectorType(I16, 32)), INTS)
    kind = FLOATS if precision == "float32" else INTS
    return load(builder, builder.add(address, I64(index * BYTES)), kind).value


def _multiply_add(builder: Builder, precision: str, total: Value, weight: Value, x: Value) -> Value:
    """Return `total` plus, in each lane, the product of a weight (a pair of them) with `x`."""
    if precision == "float32":
        return call(builder, "llvm.fma.v16f32", FLOATS, weight, x, total)
    if precision == "int8":
        return _short_pairs(builder, total, weight, x)
    if "avx512bf16" in features():
        pairs = ir.VectorType(BFloat(), 32)
        operands = [builder.bitcast(value, pairs) for value in (weight, x)]
        return call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, total, *operands)
    low, high = ((_half(builder, weight, top), _half(builder, x, top)) for top in (False, True))
    return high[0].fma(high[1], low[0].fma(low[1], Vector(builder, total))).value


def _half(builder: Builder, pairs: Value, top: bool) -> Vector:
    bits = Vector(builder, pairs)
    return (bits & 0xFFFF0000 if top else bits << 16).floats()


def _short_pairs(builder: Builder, total: Value, weight: Value, x: Value) -> Value:
    if "avx512vnni" in features():
        return call(builder, "llvm.x86.avx512.vpdpwssd.512", INTS, total, weight, x)
    for top in (False, True):
        factors = []
        for pairs in (weight, x):
            shifted = pairs if top else (Vector(builder, pairs) << 16).value
            factors.append(builder.ashr(shifted, constant(builder, 16, INTS).value))
        total = builder.add(total, builder.mul(*factors))
    return total


@dataclass(frozen=True)
class _Rows:
    """Addresses of the first of several rows, and the bytes from each to the next."""

    x: Value
    x_stride: Value
    x_scale: Value
    y: Value
    y_stride: Value


def _tile(
    builder: Builder,
    precision: str,
    shape: tuple[int, int],
    weights: Value,
    scales: Value,
    groups: Value,
    rows: _Rows,
) -> None:
    """Write the product of one block of outputs with a few rows; `shape` is both their numbers."""
    width, count = shape
    integers, pairs = precision == "int8", precision != "float32"
    chains, registers = BLOCK // width, width // LANES  # chains of sums, registers of each
    row_of_weights = BLOCK * (2 if integers else 4)
    inputs = [builder.add(rows.x, builder.mul(rows.x_stride, I64(row))) for row in range(count)]

    def output(row: int, index: int) -> Value:
        start = builder.add(rows.y, builder.mul(rows.y_stride, I64(row)))
        return builder.add(start, I64(index * BYTES))

    sums = {}
    for row, index in itertools.product(range(count), range(BLOCK // LANES)):
        if integers or index >= registers:
            start = constant(builder, 0, INTS if integers else FLOATS)
        else:
            start = load(builder, output(row, index))
        sums[row, index] = cgutils.alloca_once_value(builder, start.value)
    with cgutils.for_range(builder, groups) as loop:
        here = builder.add(weights, builder.mul(loop.index, I64(row_of_weights)))
        passed = builder.mul(loop.index, I64(4 * chains))
        loaded = [_weights(builder, precision, here, i) for i in range(BLOCK // LANES)]
        for row, chain in itertools.product(range(count), range(chains)):
            place = builder.add(builder.add(inputs[row], passed), I64(4 * chain))
            x = spread(builder, load_one(builder, place, I32 if pairs else F32)).value
            for index in range(chain * registers, (chain + 1) * registers):
                total = builder.load(sums[row, index])
                total = _multiply_add(builder, precision, total, loaded[index], x)
                builder.store(total, sums[row, index])
    for row, index in itertools.product(range(count), range(registers)):
        total = Vector(builder, builder.load(sums[row, index]))
        for chain in range(1, chains):
            more = builder.load(sums[row, index + chain * registers])
            total = total + Vector(builder, more)
        if integers:
            by_row = builder.add(rows.x_scale, builder.mul(rows.x_stride, I64(row)))
            scale = load(builder, builder.add(scales, I64(index * BYTES)))
            scale = scale * spread(builder, load_one(builder, by_row))
            total = total.to_floats().fma(scale, load(builder, output(row, index)))
        total.store(output(row, index))


def _block_of(precision: str) -> Any:
    """Return compiled code for a block of `width` outputs and `count` rows, each one that we use.

    `block(width, count, weights, scales, groups, x, x_stride, x_scale, y, y_stride)`
    """

    @emitted(types.void, *[types.int64] * 10)
    def block(
        builder: Builder,
        width: Value,
        count: Value,
        weights: Value,
        scales: Value,
        groups: Value,
        x: Value,
        x_stride: Value,
        x_scale: Value,
        y: Value,
        y_stride: Value,
    ) -> None:
        rows = _Rows(x, x_stride, x_scale, y, y_stride)
        end = builder.append_basic_block("end")
        choice = builder.switch(builder.add(width, count), end)
        for shape in itertools.product(WIDTHS, rows_at_once()):
            here = builder.append_basic_block("tile")
            choice.add_case(I64(sum(shape)), here)
            builder.position_at_end(here)
            _tile(builder, precision, shape, weights, scales, groups, rows)
            builder.branch(end)
        builder.position_at_end(end)

    return block


@lru_cache
def product_of(precision: str) -> Any:
    """Return the product of one precision, as compiled code.

    `product(weights, scales, inputs, outputs, x, x_stride, x_scale, y, y_stride, rows)` adds `W x`
    to rows `y` of `outputs` float32. `weights`, `scales`, `x`, `x_scale` (of a row) and `y` are
    addresses, strides are the bytes from one row to the next.
    """
    block = _block_of(precision)
    pair = AT_ONCE[precision]
    weight_bytes = WEIGHT_BYTES[precision]
    input_bytes = INPUT_BYTES[precision]
    most = rows_at_once()[0]

    def product(
        weights: Address,
        scales: Address,
        inputs: int,
        outputs: int,
        x: Address,
        x_stride: int,
        x_scale: Address,
        y: Address,
        y_stride: int,
        rows: int,
    ) -> None:
        first = 0
        while first < outputs:
            left = outputs - first
            width = 64 if left >= 64 else 32 if left >= 32 else 16
            for start in range(0, inputs, PIECE):
                piece = min(PIECE, inputs - start)
                row = 0
                while row < rows:
                    few = min(rows - row, most)
                    if 1 < few < most:
                        few &= ~1
                    block(
                        width,
                        few,
                        weights + (first * inputs + start * width) * weight_bytes,
                        scales + 4 * first,
                        piece * width // (BLOCK * pair),
                        x + start * input_bytes + row * x_stride,
                        x_stride,
                        x_scale + row * x_stride,
                        y + 4 * first + row * y_stride,
                        y_stride,
                    )
                    row += few
            first += width

    return compiled(product, precision)
