"""Matrix products with few rows, for weights in float32, bfloat16 or int8.

`y += W x` for one row `x` or for several: streams of a batch, or samples of one stream. The weights
are read once, a register of outputs at a time, while the sums stay in registers; six rows share the
loaded weights if the machine has enough registers.

A packed matrix consists of blocks of 64, 32 or 16 outputs. A narrow block takes several inputs at
once, so that always 64 sums are in progress: enough to hide the latency of a fused multiply-add.
The order of the sums depends on the block only, not on the rows, so a row has the same result in
any batch.

    float32   weights and activations are 32-bit floats
    bfloat16  both are rounded to 8 bits of mantissa; pairs of products are summed in float32
    int8      weights are 8-bit integers with one scale per output, activations 14-bit integers with
              one scale per row; sums in 32 bits are exact
"""

import itertools
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.compiler import Address, Builder, Value, features, llvm_function
from wavenet.kernels.scalars import int_min
from wavenet.kernels.sources import SOURCES
from wavenet.kernels.vectors import (
    F32,
    FLOAT_VECTOR,
    I16,
    I32,
    I64,
    INT_VECTOR,
    LANES,
    VECTOR_BYTES,
    BFloat,
    Variable,
    Vector,
    broadcast,
    call_llvm,
    constant,
    for_range,
    load,
    load_scalar,
)

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
INPUT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 2}
INPUTS_PER_INSTRUCTION = {"float32": 1, "bfloat16": 2, "int8": 2}
BLOCK_OUTPUTS = 64  # outputs of the widest block: the sums in progress
BLOCK_WIDTHS = (64, 32, 16)
ACTIVATION_BITS = 13  # of an int8 model's activation, without its sign
ACTIVATION_LIMIT = 2**ACTIVATION_BITS - 1
MAX_SUMMED_INPUTS = 2048  # 127 * ACTIVATION_LIMIT * 2048 fits in 32 bits
SCALE_BYTES = 64  # an int8 row ends with its scale, repeated
CACHE_LINE_BYTES = 64


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """Return a flat copy that begins at a cache line and has a spare line after it."""
    memory = np.zeros(values.nbytes + 2 * CACHE_LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE_BYTES
    copy = memory[start : start + values.nbytes].view(values.dtype)
    copy[:] = values.ravel()
    return copy


def rows_at_once() -> tuple[int, ...]:
    """Return how many rows may share the loaded weights, the largest number first."""
    return (6, 4, 2, 1) if "avx512f" in features() else (1,)


def row_bytes(width: int, weight_dtype: str) -> int:
    """Return the size of an encoded row of activations."""
    return width * INPUT_BYTES[weight_dtype] + (SCALE_BYTES if weight_dtype == "int8" else 0)


def pack(
    matrix: NDArray[np.float32], weight_dtype: str
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return a matrix in the order in which `make_product`'s functions read it, and its scales.

    Args:
        matrix: `(outputs, inputs)`, both multiples of 16.
        weight_dtype: A key of `WEIGHT_BYTES`.

    Returns:
        Weights in one dimension: float32, uint16 (bfloat16's bits) or int8. One float32 scale per
        output; none unless int8.
    """
    scales = np.empty(0, np.float32)
    values: NDArray[Any] = np.ascontiguousarray(matrix, np.float32)
    if weight_dtype == "bfloat16":
        values = to_bfloat16(values)
    elif weight_dtype == "int8":
        scales = np.abs(values).max(axis=1) / np.float32(127)
        values = np.rint(values / np.maximum(scales, 1e-30)[:, None]).astype(np.int8)
    blocks, first = [], 0
    while first < len(values):
        width = next(width for width in BLOCK_WIDTHS if first + width <= len(values))
        chains, pair = BLOCK_OUTPUTS // width, INPUTS_PER_INSTRUCTION[weight_dtype]
        block = values[first : first + width].reshape(width, -1, chains, pair)
        blocks.append(block.transpose(1, 2, 0, 3).ravel())
        first += width
    return np.concatenate(blocks), scales


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def encode_rows(values: NDArray[np.float32], weight_dtype: str) -> NDArray[np.uint8]:
    """Return rows of activations as matrix products read them, `(..., row_bytes)`.

    Args:
        values: `(..., width)`, the width a multiple of 16.
        weight_dtype: A key of `WEIGHT_BYTES`.
    """
    values = np.ascontiguousarray(values)
    if weight_dtype == "float32":
        return values.view(np.uint8)
    if weight_dtype == "bfloat16":
        return to_bfloat16(values).view(np.uint8)
    peak = np.abs(values).max(axis=-1, keepdims=True).clip(2.0**-60, 2.0**60)
    unit = np.ldexp(np.float32(1), np.frexp(peak)[1] - ACTIVATION_BITS).astype(np.float32)
    shorts = np.rint(values / unit).clip(-ACTIVATION_LIMIT, ACTIVATION_LIMIT).astype(np.int16)
    scales = np.repeat(unit, SCALE_BYTES // 4, axis=-1)
    return np.concatenate([shorts.view(np.uint8), scales.view(np.uint8)], axis=-1)


def decode_rows(rows: NDArray[np.uint8], width: int, weight_dtype: str) -> NDArray[np.float32]:
    """Return the values of encoded rows of activations, float32 `(..., width)`."""
    rows = np.ascontiguousarray(rows)
    if weight_dtype == "float32":
        return rows.view(np.float32)
    if weight_dtype == "bfloat16":
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    shorts = np.ascontiguousarray(rows[..., : 2 * width]).view(np.int16)
    unit = np.ascontiguousarray(rows[..., 2 * width : 2 * width + 4]).view(np.float32)
    return shorts.astype(np.float32) * unit


# Loads and multiply-adds of each weight dtype.


def _weights(builder: Builder, weight_dtype: str, address: Value, index: int) -> Value:
    """Load the weights of sixteen outputs, number `index` of a block's row."""
    if weight_dtype == "int8":
        place = builder.add(address, I64(index * LANES * 2))
        kind = ir.VectorType(ir.IntType(8), 2 * LANES)
        shorts = builder.sext(load(builder, place, kind).value, ir.VectorType(I16, 2 * LANES))
        return builder.bitcast(shorts, INT_VECTOR)
    kind = FLOAT_VECTOR if weight_dtype == "float32" else INT_VECTOR
    return load(builder, builder.add(address, I64(index * VECTOR_BYTES)), kind).value


def _multiply_add(
    builder: Builder, weight_dtype: str, total: Value, weight: Value, x: Value
) -> Value:
    """Return `total` plus, per lane, the product of a weight (or a pair of weights) with `x`."""
    if weight_dtype == "float32":
        return call_llvm(builder, "llvm.fma.v16f32", FLOAT_VECTOR, weight, x, total)
    if weight_dtype == "int8":
        return _int16_pairs(builder, total, weight, x)
    if "avx512bf16" in features():
        pairs = ir.VectorType(BFloat(), 2 * LANES)
        operands = [total, *(builder.bitcast(value, pairs) for value in (weight, x))]
        return call_llvm(builder, "llvm.x86.avx512bf16.dpbf16ps.512", FLOAT_VECTOR, *operands)
    low, high = ((_half(builder, weight, top), _half(builder, x, top)) for top in (False, True))
    return high[0].fma(high[1], low[0].fma(low[1], Vector(builder, total))).value


def _half(builder: Builder, pairs: Value, top: bool) -> Vector:
    bits = Vector(builder, pairs)
    return (bits & 0xFFFF0000 if top else bits << 16).bits_as_floats()


def _int16_pairs(builder: Builder, total: Value, weight: Value, x: Value) -> Value:
    if "avx512vnni" in features():
        return call_llvm(builder, "llvm.x86.avx512.vpdpwssd.512", INT_VECTOR, total, weight, x)
    for top in (False, True):
        factors = []
        for pairs in (weight, x):
            shifted = pairs if top else (Vector(builder, pairs) << 16).value
            factors.append(builder.ashr(shifted, constant(builder, 16, INT_VECTOR).value))
        total = builder.add(total, builder.mul(*factors))
    return total


def _tile(
    builder: Builder,
    weight_dtype: str,
    shape: tuple[int, int],
    weights: Value,
    scales: Value,
    groups: Value,
    x: Value,
    x_stride: Value,
    x_scale: Value,
    y: Value,
    y_stride: Value,
) -> None:
    """Write the product of one block with a few rows; `shape` is (outputs, rows)."""
    width, count = shape
    integers, pairs = weight_dtype == "int8", weight_dtype != "float32"
    chains, registers = BLOCK_OUTPUTS // width, width // LANES  # parallel sums per output
    weight_row_bytes = BLOCK_OUTPUTS * (2 if integers else 4)
    row_starts = [builder.add(x, builder.mul(x_stride, I64(row))) for row in range(count)]

    def output(row: int, index: int) -> Value:
        start = builder.add(y, builder.mul(y_stride, I64(row)))
        return builder.add(start, I64(index * VECTOR_BYTES))

    sums = {}
    for row, index in itertools.product(range(count), range(BLOCK_OUTPUTS // LANES)):
        if integers or index >= registers:
            start = constant(builder, 0, INT_VECTOR if integers else FLOAT_VECTOR)
        else:
            start = load(builder, output(row, index))
        sums[row, index] = Variable(start)
    with for_range(builder, groups) as group:
        group_weights = builder.add(weights, builder.mul(group, I64(weight_row_bytes)))
        offset = builder.mul(group, I64(4 * chains))
        loaded = [
            _weights(builder, weight_dtype, group_weights, i) for i in range(BLOCK_OUTPUTS // LANES)
        ]
        for row, chain in itertools.product(range(count), range(chains)):
            place = builder.add(builder.add(row_starts[row], offset), I64(4 * chain))
            inputs = broadcast(builder, load_scalar(builder, place, I32 if pairs else F32)).value
            for index in range(chain * registers, (chain + 1) * registers):
                total = sums[row, index].get().value
                total = _multiply_add(builder, weight_dtype, total, loaded[index], inputs)
                sums[row, index].set(Vector(builder, total))
    for row, index in itertools.product(range(count), range(registers)):
        result = sums[row, index].get()
        for chain in range(1, chains):
            result = result + sums[row, index + chain * registers].get()
        if integers:
            row_scale = builder.add(x_scale, builder.mul(x_stride, I64(row)))
            scale = load(builder, builder.add(scales, I64(index * VECTOR_BYTES)))
            scale = scale * broadcast(builder, load_scalar(builder, row_scale))
            result = result.to_floats().fma(scale, load(builder, output(row, index)))
        result.store(output(row, index))


def _make_block(weight_dtype: str) -> Any:
    """Return compiled code for one block of outputs and up to `rows_at_once` rows.

    `block(width, count, weights, scales, groups, x, x_stride, x_scale, y, y_stride)`
    """

    @llvm_function(types.void, *[types.int64] * 10)
    def block(builder: Builder, width: Value, count: Value, *operands: Value) -> None:
        end = builder.append_basic_block("end")
        choice = builder.switch(builder.add(width, count), end)
        for shape in itertools.product(BLOCK_WIDTHS, rows_at_once()):
            here = builder.append_basic_block("tile")
            choice.add_case(I64(sum(shape)), here)
            builder.position_at_end(here)
            _tile(builder, weight_dtype, shape, *operands)
            builder.branch(end)
        builder.position_at_end(end)

    return block


PRODUCT = types.void(*[types.int64] * 10)


@lru_cache
def make_product(weight_dtype: str) -> FunctionByAddress:
    """Return the matrix product for one weight dtype, a function of signature `PRODUCT`.

    `product(weights, scales, first, outputs, inputs, x, x_stride, y, y_stride, rows)` adds `W x` to
    rows `y`, for `outputs` rows of `W` from `first` on. `weights` and `scales` are addresses of the
    whole matrix, `x` and `y` of the first row, strides are the bytes from one row to the next.
    """
    block = _make_block(weight_dtype)
    pair = INPUTS_PER_INSTRUCTION[weight_dtype]
    weight_bytes = WEIGHT_BYTES[weight_dtype]
    input_bytes = INPUT_BYTES[weight_dtype]
    most = rows_at_once()[0]

    def product(
        weights: Address,
        scales: Address,
        first: int,
        outputs: int,
        inputs: int,
        x: Address,
        x_stride: int,
        y: Address,
        y_stride: int,
        rows: int,
    ) -> None:
        weights += first * inputs * weight_bytes
        scales += 4 * first
        x_scale, done = x + inputs * input_bytes, 0  # an int8 row ends with its scale
        while done < outputs:
            left = outputs - done
            width = 64 if left >= 64 else 32 if left >= 32 else 16
            for start in range(0, inputs, MAX_SUMMED_INPUTS):
                piece = int_min(MAX_SUMMED_INPUTS, inputs - start)
                row = 0
                while row < rows:
                    few = int_min(rows - row, most)
                    if 1 < few < most:
                        few &= ~1
                    block(
                        width,
                        few,
                        weights + (done * inputs + start * width) * weight_bytes,
                        scales + 4 * done,
                        piece * width // (BLOCK_OUTPUTS * pair),
                        x + start * input_bytes + row * x_stride,
                        x_stride,
                        x_scale + row * x_stride,
                        y + 4 * done + row * y_stride,
                        y_stride,
                    )
                    row += few
            done += width

    return FunctionByAddress(product, PRODUCT, f"product-{weight_dtype}", SOURCES)
