"""Gated activation of the training pass for CPUs, compiled by Numba; see `openmp`.

Every number is read once: both halves are loaded, their exponentials share a division, and what the
gradients of weights need transposed is transposed while it is in the cache.
"""

import logging
from functools import lru_cache
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from torch import Tensor

from wavenet.kernels.compiler import Builder, Value, llvm_function
from wavenet.kernels.cuda.gated_activation import cuda_gated_activation
from wavenet.kernels.openmp import (
    BFLOAT_BITS,
    BLOCK_ROWS,
    SUPPORTED_DTYPES,
    dtype_suffix,
    gomp_parallel,
    parallel_kernel,
    read_vector,
    row_stride_bytes,
    run_kernel,
    storage_vector,
    write_vector,
)
from wavenet.kernels.vectors import (
    FLOAT_VECTOR,
    I32,
    I64,
    LANES,
    Variable,
    Vector,
    constant,
    exp,
    expm1,
    for_range,
    load,
    pointer,
)
from wavenet.modules import GatedActivation

log = logging.getLogger("wavenet")


class CpuGatedActivation(GatedActivation):
    """`GatedActivation` in float32 and bfloat16; other dtypes and widths are PyTorch's."""

    def __init__(self, rows: int, half: int, like: Tensor) -> None:
        super().__init__(rows, half, like)
        supported = half % LANES == 0 and like.device.type == "cpu"
        self.supported = supported and like.dtype in SUPPORTED_DTYPES
        if self.supported:
            self.is_bfloat16 = like.dtype == torch.bfloat16
            self.z = like.new_empty(rows, half)
            self.grad_y = like.new_empty(0)  # allocated by the first backward
            self.zeros = torch.zeros(2 * half)

    def forward(self, y: Tensor, bias: Tensor | None, z: Tensor) -> Tensor:
        if not self.supported:
            return super().forward(y, bias, z)
        added = self.zeros if bias is None else bias.float().contiguous()
        addresses = map(Tensor.data_ptr, (y, added, self.z, z))
        kernel = _forward_kernel(self.is_bfloat16)
        run_kernel(kernel, self.rows, self.half, *addresses, row_stride_bytes(z))
        return self.z

    def backward(
        self, y: Tensor, bias: Tensor | None, grad_z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not self.supported:
            return super().backward(y, bias, grad_z)
        if not len(self.grad_y):
            self.grad_y = torch.empty_like(y)
            padded_rows = -(-self.rows // LANES) * LANES
            self.grad_y_transposed = y.new_empty(2 * self.half, padded_rows)
            self.z_transposed = y.new_empty(self.half + 1, padded_rows)
            self.z_transposed[-1] = 1
        added = self.zeros if bias is None else bias.float().contiguous()
        sums = torch.zeros(-(-self.rows // BLOCK_ROWS), 2 * self.half)
        tensors = (
            y, added, self.grad_y, self.grad_y_transposed, self.z_transposed, sums, grad_z
        )  # fmt: skip
        strides = row_stride_bytes(grad_z), row_stride_bytes(self.grad_y_transposed)
        kernel = _backward_kernel(self.is_bfloat16)
        run_kernel(kernel, self.rows, self.half, *map(Tensor.data_ptr, tensors), *strides)
        columns = slice(0, self.rows)
        return self.grad_y, self.grad_y_transposed[:, columns], self.z_transposed[:, columns], sums


def fast_gated_activation(rows: int, half: int, like: Tensor) -> GatedActivation:
    """Return the fastest gated activation for a tensor's device on this machine."""
    if like.device.type == "cuda":
        return cuda_gated_activation(rows, half, like)
    return cpu_gated_activation()(rows, half, like)


@lru_cache
def cpu_gated_activation() -> type[GatedActivation]:
    """Return the fastest gated activation for this machine's CPU."""
    try:
        gomp_parallel()
    except OSError as error:
        log.debug("using PyTorch's gated activation: %s", error)
        return GatedActivation
    return CpuGatedActivation


@lru_cache
def _forward_kernel(is_bfloat16: bool) -> Any:
    size, forward_row = 2 if is_bfloat16 else 4, _forward_row(is_bfloat16)

    @parallel_kernel(f"gates-forward-{dtype_suffix(is_bfloat16)}")
    def forward_kernel(numbers: Any, first: int, last: int) -> None:
        half, y, bias = numbers[1], numbers[2], numbers[3]
        z, second_z, second_stride = numbers[4], numbers[5], numbers[6]
        for row in range(first, last):
            start = row * half * size
            forward_row(half, y + 2 * start, bias, z + start, second_z + row * second_stride)

    return forward_kernel


@lru_cache
def _backward_kernel(is_bfloat16: bool) -> Any:
    size, backward_tile = 2 if is_bfloat16 else 4, _backward_tile(is_bfloat16)

    @parallel_kernel(f"gates-backward-{dtype_suffix(is_bfloat16)}")
    def backward_kernel(numbers: Any, first: int, last: int) -> None:
        half, y, bias, grad_y = numbers[1], numbers[2], numbers[3], numbers[4]
        grad_y_transposed, z_transposed, sums = numbers[5], numbers[6], numbers[7]
        grad_z, grad_stride, stride = numbers[8], numbers[9], numbers[10]
        block_sums = sums + first // BLOCK_ROWS * 2 * half * 4
        for column in range(0, half, LANES):  # this order fills transposed cache lines
            for tile in range(first, last, LANES):
                start = (tile * 2 * half + column) * size
                transposed = column * stride + tile * size
                backward_tile(
                    min(LANES, last - tile),
                    half,
                    y + start,
                    bias + column * 4,
                    grad_y + start,
                    grad_y_transposed + transposed,
                    z_transposed + transposed,
                    block_sums + column * 4,
                    grad_z + tile * grad_stride + column * size,
                    grad_stride,
                    stride,
                )

    return backward_kernel


def _forward_row(is_bfloat16: bool) -> Any:
    """Return compiled code for one row of the forward pass, written to two places."""
    size = 2 if is_bfloat16 else 4

    @llvm_function(types.void, *[types.int64] * 5)
    def forward_row(
        builder: Builder, half: Value, y: Value, bias: Value, z: Value, second_z: Value
    ) -> None:
        with for_range(builder, builder.sdiv(half, I64(LANES))) as index:
            offset = builder.mul(index, I64(LANES * size))
            bias_address = builder.add(bias, builder.mul(index, I64(LANES * 4)))
            address = builder.add(y, offset)
            tanh, sigmoid = _tanh_and_sigmoid(builder, is_bfloat16, half, address, bias_address)
            for target in (z, second_z):
                write_vector(builder, tanh * sigmoid, builder.add(target, offset), is_bfloat16)

    return forward_row


def _backward_tile(is_bfloat16: bool) -> Any:
    """Return compiled code for a tile of the backward pass, up to sixteen rows by sixteen columns.

    Takes rows, width of the gate's output, addresses, and the bytes from row to row of `grad_z` and
    of the transposed results, of which a complete tile is written.
    """
    size, kind = (2, BFLOAT_BITS) if is_bfloat16 else (4, FLOAT_VECTOR)

    @llvm_function(types.void, *[types.int64] * 11)
    def backward_tile(
        builder: Builder,
        rows: Value,
        half: Value,
        y: Value,
        bias: Value,
        grad_y: Value,
        grad_y_transposed: Value,
        z_transposed: Value,
        sums: Value,
        grad_z: Value,
        grad_stride: Value,
        stride: Value,
    ) -> None:
        half_bytes, one = builder.mul(half, I64(size)), constant(builder, 1.0)
        sum_addresses = (sums, builder.add(sums, builder.mul(half, I64(4))))
        totals = [Variable(load(builder, address)) for address in sum_addresses]
        tiles = [cgutils.alloca_once(builder, kind, I64(LANES)) for _ in range(3)]
        with for_range(builder, rows) as index:
            row = builder.mul(index, builder.mul(half_bytes, I64(2)))
            address = builder.add(y, row)
            tanh, sigmoid = _tanh_and_sigmoid(builder, is_bfloat16, half, address, bias)
            address = builder.add(grad_z, builder.mul(index, grad_stride))
            grad = read_vector(builder, address, is_bfloat16)
            z = tanh * sigmoid
            grads = (grad * sigmoid * (one - tanh * tanh), grad * z * (one - sigmoid))
            for total, numbers in zip(totals, grads, strict=True):
                total.set(numbers + total.get())
            stored = [storage_vector(builder, numbers, is_bfloat16) for numbers in (*grads, z)]
            for tile, numbers in zip(tiles, stored, strict=True):
                builder.store(numbers, builder.gep(tile, [index], source_etype=kind))
            for offset, numbers in zip((row, builder.add(row, half_bytes)), stored, strict=False):
                builder.store(numbers, pointer(builder, builder.add(grad_y, offset)), align=2)
        for total, address in zip(totals, sum_addresses, strict=True):
            total.get().store(address)
        with for_range(builder, builder.sub(I64(LANES), rows)) as index:  # see `rows.finite_rows`
            for tile in tiles:
                place = builder.gep(tile, [builder.add(rows, index)], source_etype=kind)
                builder.store(ir.Constant(kind, None), place)
        second_half = builder.add(grad_y_transposed, builder.mul(half, stride))
        targets = (grad_y_transposed, second_half, z_transposed)
        for tile, target in zip(tiles, targets, strict=True):
            _write_transposed(builder, kind, tile, target, stride)

    return backward_tile


def _tanh_and_sigmoid(
    builder: Builder, is_bfloat16: bool, half: Value, y: Value, bias: Value
) -> tuple[Vector, Vector]:
    """Return tanh and sigmoid of sixteen columns whose first halves begin at `y` and `bias`.

    With m = e^-2a - 1, tanh(a) = -m / (2 + m), exact for small numbers too; sigmoid(b) = 1 / (1 +
    e^-b). Both share one division.
    """
    second_y = builder.add(y, builder.mul(half, I64(2 if is_bfloat16 else 4)))
    second_bias = builder.add(bias, builder.mul(half, I64(4)))
    a = read_vector(builder, y, is_bfloat16) + load(builder, bias)
    b = read_vector(builder, second_y, is_bfloat16) + load(builder, second_bias)
    m, decay = expm1(a.clamp(-10.0, 10.0) * -2.0), exp(b.clamp(-60.0, 60.0) * -1.0)
    tanh_divisor, sigmoid_divisor = m + 2.0, decay + 1.0
    inverse = a.like(1.0) / (tanh_divisor * sigmoid_divisor)
    return m * -1.0 * sigmoid_divisor * inverse, tanh_divisor * inverse


def _write_transposed(
    builder: Builder, kind: Value, tile: Value, target: Value, stride: Value
) -> None:
    """Write sixteen vectors of sixteen, transposed: halves of halves are exchanged."""
    places = [builder.gep(tile, [I64(row)], source_etype=kind) for row in range(LANES)]
    rows = [builder.load(place, typ=kind) for place in places]
    for half in (8, 4, 2, 1):
        low = [lane if not lane & half else LANES + lane - half for lane in range(LANES)]
        high = [lane + half if not lane & half else LANES + lane for lane in range(LANES)]
        masks = [ir.Constant(ir.VectorType(I32, LANES), order) for order in (low, high)]
        for row in (row for row in range(LANES) if not row & half):
            pair = rows[row], rows[row + half]
            rows[row], rows[row + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
    for row, numbers in enumerate(rows):
        address = builder.add(target, builder.mul(stride, I64(row)))
        builder.store(numbers, pointer(builder, address), align=2)
