"""Float32 matrix products of the training pass for AMD's CPUs with AVX-512; see `openmp`.

PyTorch's products are MKL's, which uses vectors of eight on these CPUs, half of what Zen 5 computes
at once; oneDNN's convolutions use vectors of sixteen. Here six rows by 64 columns of the result
stay in registers while one column of the left matrix and one row of the right one are read at a
time. The right matrix is read in panels of 64 columns and up to 512 rows, which the cache holds.

A number is summed in the same order whatever the shape of its tile, so the number of threads and
the rows that are computed at once change no bit.
"""

import itertools
import logging
from collections.abc import Set
from functools import lru_cache
from typing import Any

import torch
from numba import types
from torch import Tensor

from wavenet.kernels.compiler import Builder, Value, features, inlined, llvm_function, processor
from wavenet.kernels.openmp import BLOCK_ROWS, gomp_parallel, parallel_kernel, run_kernel
from wavenet.kernels.vectors import (
    FLOAT_VECTOR,
    I64,
    LANES,
    VECTOR_BYTES,
    Variable,
    Vector,
    broadcast,
    call_llvm,
    constant,
    for_range,
    load,
    load_scalar,
)
from wavenet.modules.rows import Matmul, matmul

log = logging.getLogger("wavenet")

MOST_ROWS = {4: 6, 2: 12, 1: 12}  # of a tile, by its vectors of columns: what registers hold
FEWER_ROWS = (4, 1)  # of the last tiles
SUMMED_ROWS = 512  # of the right matrix at once
FAR_APART = 1024  # numbers from row to row: few such rows fit into the first cache
TASK_ROWS = 192  # of the result that a thread takes at a time, at most


def fast_matmul() -> Matmul:
    """Return the fastest `rows.matmul` for this machine."""
    try:
        gomp_parallel()
    except OSError as error:
        log.debug("using PyTorch's products: %s", error)
        return matmul
    return cpu_matmul if has_slow_products(processor(), features()) else matmul


def has_slow_products(name: str, instructions: Set[str]) -> bool:
    """Return whether PyTorch's products use half of the vectors of a CPU, by LLVM's name of it."""
    return name.startswith("znver") and "avx512f" in instructions


def cpu_matmul(a: Tensor, b: Tensor, out: Tensor, *, add: bool = False) -> None:
    """`rows.matmul` in float32; other dtypes, devices and widths are PyTorch's."""
    (rows, inner), width = a.shape, b.shape[1]
    tensors = (a, b, out)
    is_float32 = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
    if not is_float32 or width % LANES or out.stride(1) != 1 or not rows * inner * width:
        matmul(a, b, out, add=add)
        return
    if b.stride(1) != 1 or (inner < rows and b.stride(0) >= FAR_APART):
        b = b.contiguous()
    each = -(-rows // torch.get_num_threads())
    each = min(TASK_ROWS, -(-each // 12) * 12)  # tiles of six or twelve rows
    run_kernel(
        _kernel(),
        -(-rows // each) * BLOCK_ROWS,
        rows,
        inner,
        width,
        each,
        a.data_ptr(),
        4 * a.stride(0),
        4 * a.stride(1),
        b.data_ptr(),
        4 * b.stride(0),
        out.data_ptr(),
        4 * out.stride(0),
        int(add),
    )


@lru_cache
def _kernel() -> Any:
    block = _make_block()

    @parallel_kernel("row-products")
    def multiply(numbers: Any, first: int, last: int) -> None:  # a block of rows is a task
        inner, width, each = numbers[2], numbers[3], numbers[4]
        a, a_row, a_step = numbers[5], numbers[6], numbers[7]
        b, b_step, out, out_row = numbers[8], numbers[9], numbers[10], numbers[11]
        start = first // BLOCK_ROWS * each
        end = min(start + each, numbers[1])
        for k in range(0, inner, SUMMED_ROWS):
            count = min(SUMMED_ROWS, inner - k)
            adds = numbers[12] if k == 0 else 1
            column = 0
            while column < width:
                left = (width - column) // LANES
                vectors = 4 if left >= 4 else 2 if left >= 2 else 1
                row, panel = start, b + k * b_step + 4 * column
                while row < end:
                    rows = _rows_of_tile(end - row, 6 if vectors == 4 else 12)
                    source, target = a + row * a_row + k * a_step, out + row * out_row + 4 * column
                    block(
                        vectors, rows, count, source, a_row, a_step, panel, b_step,
                        target, out_row, adds,
                    )  # fmt: skip
                    row += rows
                column += LANES * vectors

    return multiply


@inlined
def _rows_of_tile(left: int, most: int) -> int:
    if left >= most:
        return most
    return 4 if left >= 4 else 1


def _make_block() -> Any:
    """Return compiled code for one tile of the result.

    `block(vectors, rows, count, a, a_row, a_step, b, b_step, out, out_row, adds)`
    """

    @llvm_function(types.void, *[types.int64] * 11)
    def block(builder: Builder, vectors: Value, rows: Value, *operands: Value) -> None:
        end = builder.append_basic_block("end")
        choice = builder.switch(builder.add(builder.mul(vectors, I64(LANES)), rows), end)
        for width, most in MOST_ROWS.items():
            for count in sorted({most, *FEWER_ROWS}):
                here = builder.append_basic_block("tile")
                choice.add_case(I64(width * LANES + count), here)
                builder.position_at_end(here)
                _tile(builder, (width, count), *operands)
                builder.branch(end)
        builder.position_at_end(end)

    return block


def _tile(
    builder: Builder,
    shape: tuple[int, int],
    count: Value,
    a: Value,
    a_row: Value,
    a_step: Value,
    b: Value,
    b_step: Value,
    out: Value,
    out_row: Value,
    adds: Value,
) -> None:
    """Write or add the sum of `count` outer products; `shape` is (vectors of columns, rows)."""
    vectors, rows = shape
    sources = [builder.add(a, builder.mul(a_row, I64(row))) for row in range(rows)]
    places = {
        (row, vector): builder.add(
            builder.add(out, builder.mul(out_row, I64(row))), I64(vector * VECTOR_BYTES)
        )
        for row, vector in itertools.product(range(rows), range(vectors))
    }
    sums = {key: Variable(constant(builder, 0.0)) for key in places}
    with for_range(builder, count) as k:
        panel, offset = builder.add(b, builder.mul(k, b_step)), builder.mul(k, a_step)
        loaded = [
            load(builder, builder.add(panel, I64(vector * VECTOR_BYTES))).value
            for vector in range(vectors)
        ]
        for row in range(rows):
            number = load_scalar(builder, builder.add(sources[row], offset))
            factor = broadcast(builder, number).value
            for vector in range(vectors):
                total = sums[row, vector]
                operands = loaded[vector], factor, total.get().value
                value = call_llvm(builder, "llvm.fma.v16f32", FLOAT_VECTOR, *operands)
                total.set(Vector(builder, value))
    with builder.if_then(builder.icmp_signed("!=", adds, I64(0))):
        for key, total in sums.items():
            total.set(total.get() + load(builder, places[key]))
    for key, total in sums.items():
        total.get().store(places[key])
