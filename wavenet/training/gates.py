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

from wavenet.modules import Gates
from wavenet.sampling.cpu.compiler import ADDRESS, Builder, Value, emitted
from wavenet.sampling.cpu.vector import (
    FLOATS,
    I32,
    I64,
    LANES,
    Vector,
    constant,
    exp,
    expm1,
    pointer,
)
from wavenet.training.threads import (
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

log = logging.getLogger("wavenet")


class CpuGates(Gates):
    """`Gates` in float32 and bfloat16; whatever else comes is PyTorch's."""

    def __init__(self, rows: int, half: int, like: Tensor) -> None:
        super().__init__(rows, half, like)
        fits = rows >= LANES and half % LANES == 0 and like.device.type == "cpu"
        self.fits = fits and like.dtype in PRECISIONS
        if self.fits:
            self.forwards, self.backwards = _kernels(like.dtype == torch.bfloat16)
            self.z = like.new_empty(rows, half)
            self.grad_y = like.new_empty(0)  # made when there is a way back

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        if not self.fits:
            return super().forward(y, z)
        run(self.forwards, self.rows, self.half, *map(Tensor.data_ptr, (y, self.z, z)), step(z))
        return self.z

    def backward(self, y: Tensor, grad_z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.fits:
            return super().backward(y, grad_z)
        if not len(self.grad_y):
            self.grad_y = torch.empty_like(y)
            self.across = y.new_empty(2 * self.half, self.rows)
            self.z_across = y.new_empty(self.half + 1, self.rows)
            self.z_across[-1] = 1
        places = (y, self.grad_y, self.across, self.z_across, grad_z)
        addresses = map(Tensor.data_ptr, places)
        run(self.backwards, self.rows, self.half, *addresses, step(grad_z))
        return self.grad_y, self.across, self.z_across


def gates_here() -> type[Gates]:
    """Return the fastest gates that run here."""
    try:
        openmp()
    except OSError as error:
        log.debug("gates are PyTorch's: %s", error)
        return Gates
    return CpuGates


@lru_cache
def _kernels(halves: bool) -> tuple[Any, Any]:
    """Return the kernels of both ways, for bfloat16 (`halves`) or float32.

    Each takes a task: rows, width of the gate's output, addresses, and bytes from row to row of
    the last.
    """
    return _forwards(halves), _backwards(halves)


def _forwards(halves: bool) -> Any:
    size = 2 if halves else 4
    gate_row, _ = _parts(halves)

    @kernel
    def forwards(task: Any) -> None:
        numbers = carray(task, (NUMBERS,))
        rows, half, y, z = numbers[0], numbers[1], numbers[2], numbers[3]
        beside, between = numbers[4], numbers[5]
        first = take(task) * BLOCK
        while first < rows:
            for row in range(first, min(first + BLOCK, rows)):
                gate_row(
                    y + row * 2 * half * size, z + row * half * size, beside + row * between, half
                )
            first = take(task) * BLOCK

    return forwards


def _backwards(halves: bool) -> Any:
    size = 2 if halves else 4
    _, grad_tile = _parts(halves)

    @kernel
    def backwards(task: Any) -> None:
        numbers = carray(task, (NUMBERS,))
        rows, half, y, grad_y = numbers[0], numbers[1], numbers[2], numbers[3]
        across, z_across, grad_z, between = numbers[4], numbers[5], numbers[6], numbers[7]
        first = take(task) * BLOCK
        while first < rows:
            for column in range(0, half, LANES):  # a whole line of what lies across after the other
                for tile in range(first, min(first + BLOCK, rows), LANES):
                    start = min(tile, rows - LANES)  # the last tile may do some rows again
                    at = (start * 2 * half + column) * size
                    turned = (column * rows + start) * size
                    grad_tile(
                        half * size,
                        y + at,
                        grad_y + at,
                        grad_z + start * between + column * size,
                        between,
                        across + turned,
                        z_across + turned,
                        rows * size,
                    )
            first = take(task) * BLOCK

    return backwards


@lru_cache
def _parts(halves: bool) -> tuple[Any, Any]:
    """Return compiled code for a row forward, and for a tile, sixteen by sixteen, backward."""
    size = 2 if halves else 4
    kind = SHORTS if halves else FLOATS

    @emitted(types.void, ADDRESS, ADDRESS, ADDRESS, types.int64)
    def gate_row(builder: Builder, y: Value, z: Value, beside: Value, half: Value) -> None:
        behind = builder.add(y, builder.mul(half, I64(size)))
        with cgutils.for_range(builder, builder.sdiv(half, I64(LANES))) as loop:
            at = builder.mul(loop.index, I64(LANES * size))
            a, b = (read(builder, builder.add(place, at), halves) for place in (y, behind))
            tanh, sigmoid = _tanh_and_sigmoid(a, b)
            for place in (z, beside):
                write(builder, tanh * sigmoid, builder.add(place, at), halves)

    @emitted(types.void, *[types.int64] * 8)
    def grad_tile(
        builder: Builder,
        wide: Value,  # bytes of half a row of `y`
        y: Value,
        grad_y: Value,
        grad_z: Value,
        between: Value,  # bytes from row to row
        across: Value,
        z_across: Value,
        stride: Value,  # bytes from row to row across
    ) -> None:
        twice, one = builder.add(wide, wide), constant(builder, 1.0)
        lines = [cgutils.alloca_once(builder, kind, I64(LANES)) for _ in range(3)]
        with cgutils.for_range(builder, I64(LANES)) as loop:
            row = builder.mul(loop.index, twice)
            off = builder.add(row, wide)
            tanh, sigmoid = _tanh_and_sigmoid(
                *(read(builder, builder.add(y, at), halves) for at in (row, off))
            )
            grad = read(builder, builder.add(grad_z, builder.mul(loop.index, between)), halves)
            z = tanh * sigmoid
            found = (grad * sigmoid * (one - tanh * tanh), grad * z * (one - sigmoid), z)
            packed = [pack(builder, numbers, halves) for numbers in found]
            for line, numbers in zip(lines, packed, strict=True):
                builder.store(numbers, builder.gep(line, [loop.index], source_etype=kind))
            for at, numbers in zip((row, off), packed, strict=False):
                builder.store(numbers, pointer(builder, builder.add(grad_y, at)), align=2)
        behind = builder.add(across, builder.mul(builder.sdiv(wide, I64(size)), stride))
        for line, target in zip(lines, (across, behind, z_across), strict=True):
            places = [builder.gep(line, [I64(row)], source_etype=kind) for row in range(LANES)]
            turned = _turned(builder, [builder.load(at, typ=kind) for at in places])
            for row, numbers in enumerate(turned):
                at = builder.add(target, builder.mul(stride, I64(row)))
                builder.store(numbers, pointer(builder, at), align=2)

    return gate_row, grad_tile


def _tanh_and_sigmoid(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """Return tanh of `a` and the sigmoid of `b`, to the last digits of small numbers too.

    With m = e^-2a - 1, tanh(a) = -m / (2 + m); sigmoid(b) = 1 / (1 + e^-b). One division for both.
    """
    fade, fall = expm1(a.clamp(-10.0, 10.0) * -2.0), exp(b.clamp(-60.0, 60.0) * -1.0)
    up, down = fade + 2.0, fall + 1.0
    inverse = a.like(1.0) / (up * down)
    return fade * -1.0 * down * inverse, up * inverse


def _turned(builder: Builder, lines: list[Value]) -> list[Value]:
    """Return sixteen vectors of sixteen with lines and columns exchanged, by halves of halves."""
    lines = list(lines)
    for half in (8, 4, 2, 1):
        low = [lane if not lane & half else LANES + lane - half for lane in range(LANES)]
        high = [lane + half if not lane & half else LANES + lane for lane in range(LANES)]
        masks = [ir.Constant(ir.VectorType(I32, LANES), order) for order in (low, high)]
        for line in (line for line in range(LANES) if not line & half):
            pair = lines[line], lines[line + half]
            lines[line], lines[line + half] = (
                builder.shuffle_vector(*pair, mask) for mask in masks
            )
    return lines
