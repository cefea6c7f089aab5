"""Gates of the training pass for CPUs, compiled by Numba: see `threads`.

One look at each number: both halves are read, their exponentials share a division, and what the
gradients of weights want across is turned while it is in the cache.
"""

import logging
from functools import lru_cache
from typing import Any

import torch
from llvmlite import ir
from numba import carray
from numba.core import cgutils, types
from torch import Tensor

from wavenet.kernels.compiler import Builder, Value, emitted
from wavenet.kernels.openmp import (
    BLOCK,
    NUMBERS,
    PRECISIONS,
    SHORTS,
    kernel,
    openmp,
    pack,
    read,
    run,
    step,
    take,
    write,
)
from wavenet.kernels.vectors import (
    FLOATS,
    I32,
    I64,
    LANES,
    Vector,
    constant,
    exp,
    expm1,
    load,
    pointer,
)
from wavenet.modules import GatedActivation

log = logging.getLogger("wavenet")


class CpuGates(GatedActivation):
    """`GatedActivation` in float32 and bfloat16; whatever else comes is PyTorch's."""

    def __init__(self, rows: int, half: int, like: Tensor) -> None:
        super().__init__(rows, half, like)
        fits = half % LANES == 0 and like.device.type == "cpu"
        self.fits = fits and like.dtype in PRECISIONS
        if self.fits:
            self.halves = like.dtype == torch.bfloat16
            self.z = like.new_empty(rows, half)
            self.grad_y = like.new_empty(0)  # made when there is a way back
            self.zeros = torch.zeros(2 * half)

    def forward(self, y: Tensor, bias: Tensor | None, z: Tensor) -> Tensor:
        if not self.fits:
            return super().forward(y, bias, z)
        added = self.zeros if bias is None else bias.float().contiguous()
        places = (y, added, self.z, z)
        run(_forwards(self.halves), self.rows, self.half, *map(Tensor.data_ptr, places), step(z))
        return self.z

    def backward(
        self, y: Tensor, bias: Tensor | None, grad_z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not self.fits:
            return super().backward(y, bias, grad_z)
        if not len(self.grad_y):
            self.grad_y = torch.empty_like(y)
            whole = -(-self.rows // LANES) * LANES  # the last tile too
            self.across = y.new_empty(2 * self.half, whole)
            self.z_across = y.new_empty(self.half + 1, whole)
            self.z_across[-1] = 1
        added = self.zeros if bias is None else bias.float().contiguous()
        sums = torch.zeros(-(-self.rows // BLOCK), 2 * self.half)
        places = (y, added, self.grad_y, self.across, self.z_across, sums, grad_z)
        addresses = map(Tensor.data_ptr, places)
        steps = step(grad_z), step(self.across)
        run(_backwards(self.halves), self.rows, self.half, *addresses, *steps)
        across, z_across = (whole[:, : self.rows] for whole in (self.across, self.z_across))
        return self.grad_y, across, z_across, sums


def fast_gated_activation() -> type[GatedActivation]:
    """Return the fastest gates that run here."""
    try:
        openmp()
    except OSError as error:
        log.debug("gates are PyTorch's: %s", error)
        return GatedActivation
    return CpuGates


@lru_cache
def _forwards(halves: bool) -> Any:
    """Return the kernel of the way there, for bfloat16 (`halves`) or float32."""
    size, gate_row = 2 if halves else 4, _gate_row(halves)

    @kernel
    def forwards(task: Any) -> None:
        numbers = carray(task, (NUMBERS,))
        rows, half, y, bias = numbers[0], numbers[1], numbers[2], numbers[3]
        z, beside, between = numbers[4], numbers[5], numbers[6]
        first = take(task, rows)
        while first < rows:
            for row in range(first, min(first + BLOCK, rows)):
                own = row * half * size
                gate_row(half, y + 2 * own, bias, z + own, beside + row * between)
            first = take(task, rows)

    return forwards


@lru_cache
def _backwards(halves: bool) -> Any:
    """Return the kernel of the way back, for bfloat16 (`halves`) or float32."""
    size, grad_tile = 2 if halves else 4, _grad_tile(halves)

    @kernel
    def backwards(task: Any) -> None:
        numbers = carray(task, (NUMBERS,))
        rows, half, y, bias, grad_y = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
        across, z_across, sums = numbers[5], numbers[6], numbers[7]
        grad_z, between, stride = numbers[8], numbers[9], numbers[10]
        first = take(task, rows)
        while first < rows:
            own_sums = sums + first // BLOCK * 2 * half * 4
            for column in range(0, half, LANES):  # in this order lines across are written whole
                for tile in range(first, min(first + BLOCK, rows), LANES):
                    at = (tile * 2 * half + column) * size
                    turned = column * stride + tile * size
                    grad_tile(
                        min(LANES, rows - tile),
                        half,
                        y + at,
                        bias + column * 4,
                        grad_y + at,
                        across + turned,
                        z_across + turned,
                        own_sums + column * 4,
                        grad_z + tile * between + column * size,
                        between,
                        stride,
                    )
            first = take(task, rows)

    return backwards


def _gate_row(halves: bool) -> Any:
    """Return compiled code for a row of the way there."""
    size = 2 if halves else 4

    @emitted(types.void, *[types.int64] * 5)
    def gate_row(
        builder: Builder, half: Value, y: Value, bias: Value, z: Value, beside: Value
    ) -> None:
        with cgutils.for_range(builder, builder.sdiv(half, I64(LANES))) as loop:
            at = builder.mul(loop.index, I64(LANES * size))
            added = builder.add(bias, builder.mul(loop.index, I64(LANES * 4)))
            tanh, sigmoid = _gate_at(builder, halves, half, builder.add(y, at), added)
            for place in (z, beside):
                write(builder, tanh * sigmoid, builder.add(place, at), halves)

    return gate_row


def _grad_tile(halves: bool) -> Any:
    """Return compiled code for a tile of the way back, up to sixteen rows by sixteen columns.

    It takes rows, width of the gate's output, addresses, and bytes from row to row of `grad_z` and
    of what lies across; of this a whole tile is written.
    """
    size, kind = (2, SHORTS) if halves else (4, FLOATS)

    @emitted(types.void, *[types.int64] * 11)
    def grad_tile(
        builder: Builder,
        rows: Value,
        half: Value,
        y: Value,
        bias: Value,
        grad_y: Value,
        across: Value,
        z_across: Value,
        sums: Value,
        grad_z: Value,
        between: Value,
        stride: Value,
    ) -> None:
        wide, one = builder.mul(half, I64(size)), constant(builder, 1.0)
        totals = (sums, builder.add(sums, builder.mul(half, I64(4))))
        cells = [cgutils.alloca_once_value(builder, load(builder, at).value) for at in totals]
        tiles = [cgutils.alloca_once(builder, kind, I64(LANES)) for _ in range(3)]
        with cgutils.for_range(builder, rows) as loop:
            row = builder.mul(loop.index, builder.mul(wide, I64(2)))
            tanh, sigmoid = _gate_at(builder, halves, half, builder.add(y, row), bias)
            grad = read(builder, builder.add(grad_z, builder.mul(loop.index, between)), halves)
            z = tanh * sigmoid
            found = (grad * sigmoid * (one - tanh * tanh), grad * z * (one - sigmoid))
            for cell, numbers in zip(cells, found, strict=True):
                builder.store((numbers + Vector(builder, builder.load(cell))).value, cell)
            packed = [pack(builder, numbers, halves) for numbers in (*found, z)]
            for tile, numbers in zip(tiles, packed, strict=True):
                builder.store(numbers, builder.gep(tile, [loop.index], source_etype=kind))
            for at, numbers in zip((row, builder.add(row, wide)), packed, strict=False):
                builder.store(numbers, pointer(builder, builder.add(grad_y, at)), align=2)
        for cell, at in zip(cells, totals, strict=True):
            Vector(builder, builder.load(cell)).store(at)
        behind = builder.add(across, builder.mul(half, stride))
        for tile, target in zip(tiles, (across, behind, z_across), strict=True):
            _write_turned(builder, kind, tile, target, stride)

    return grad_tile


def _gate_at(
    builder: Builder, halves: bool, half: Value, y: Value, bias: Value
) -> tuple[Vector, Vector]:
    """Return tanh and sigmoid of sixteen columns, whose first are at `y` and `bias`."""
    a = read(builder, y, halves) + load(builder, bias)
    behind = builder.add(y, builder.mul(half, I64(2 if halves else 4)))
    b = read(builder, behind, halves) + load(builder, builder.add(bias, builder.mul(half, I64(4))))
    return _tanh_and_sigmoid(a, b)


def _tanh_and_sigmoid(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """Return tanh of `a` and the sigmoid of `b`, to the last digits of small numbers too.

    With m = e^-2a - 1, tanh(a) = -m / (2 + m); sigmoid(b) = 1 / (1 + e^-b). One division for both.
    """
    fade, fall = expm1(a.clamp(-10.0, 10.0) * -2.0), exp(b.clamp(-60.0, 60.0) * -1.0)
    up, down = fade + 2.0, fall + 1.0
    inverse = a.like(1.0) / (up * down)
    return fade * -1.0 * down * inverse, up * inverse


def _write_turned(builder: Builder, kind: Value, tile: Value, target: Value, stride: Value) -> None:
    """Write sixteen vectors of sixteen with rows and columns exchanged, by halves of halves."""
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
        at = builder.add(target, builder.mul(stride, I64(row)))
        builder.store(numbers, pointer(builder, at), align=2)
