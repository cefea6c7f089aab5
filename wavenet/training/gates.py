"""Gates of the training pass for CPUs: compiled by Numba, on the threads that PyTorch has already.

One look at each number: both halves are read, their exponentials share a division, and what the
gradients of weights want across is turned while it is in the cache. A row is computed by the same
instructions whichever thread takes it, so that their number changes no bit.

PyTorch's threads wait busily between two products. Threads of another pool would have to wait for
those, so these kernels run on the same: OpenMP's `GOMP_parallel` is what its own kernels call.
"""

import ctypes
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from llvmlite import ir
from numba import carray, cfunc
from numba.core import cgutils, types
from torch import Tensor

from wavenet.modules import Gates
from wavenet.sampling.cpu.compiler import ADDRESS, Builder, Value, emitted
from wavenet.sampling.cpu.vector import (
    I16,
    I32,
    I64,
    INTS,
    LANES,
    Vector,
    constant,
    exp,
    expm1,
    load,
    pointer,
)

log = logging.getLogger("wavenet")
BLOCK = 128  # rows that a thread takes at a time
SHORTS = ir.VectorType(I16, LANES)
TASK = types.CPointer(types.int64)  # type: ignore[attr-defined]
NUMBERS = 16  # of a task
NEXT = NUMBERS - 1  # the one that threads count up


class CpuGates(Gates):
    """`Gates` in float32 and bfloat16; whatever else comes is PyTorch's."""

    def __init__(self, rows: int, half: int, like: Tensor) -> None:
        super().__init__(rows, half, like)
        fits = rows >= LANES and half % LANES == 0 and like.device.type == "cpu"
        self.fits = fits and like.dtype in (torch.float32, torch.bfloat16)
        if self.fits:
            self.forwards, self.backwards = _kernels(like.dtype == torch.bfloat16)
            self.z = like.new_empty(rows, half)
            self.grad_y = like.new_empty(0)  # made when there is a way back

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        if not self.fits:
            return super().forward(y, z)
        _run(self.forwards, self.rows, self.half, *map(Tensor.data_ptr, (y, self.z, z)), _step(z))
        return self.z

    def backward(self, y: Tensor, z: Tensor, grad_z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.fits:
            return super().backward(y, z, grad_z)
        if not len(self.grad_y):
            self.grad_y = torch.empty_like(y)
            self.across = y.new_empty(2 * self.half, self.rows)
            self.z_across = y.new_empty(self.half, self.rows)
        places = (y, grad_z, self.grad_y, self.across, self.z_across, z)
        _run(self.backwards, self.rows, self.half, *map(Tensor.data_ptr, places), _step(z))
        return self.grad_y, self.across, self.z_across


def gates_here() -> type[Gates]:
    """Return the fastest gates that run here."""
    try:
        _openmp()
    except OSError as error:
        log.debug("gates are PyTorch's: %s", error)
        return Gates
    return CpuGates


@lru_cache
def _openmp() -> Callable[..., None]:
    """Return what runs a function on all of PyTorch's threads.

    Raises:
        OSError: PyTorch's OpenMP is another one, or none.
    """
    try:
        parallel = ctypes.CDLL("libgomp.so.1", mode=getattr(ctypes, "RTLD_NOLOAD", 4)).GOMP_parallel
    except AttributeError as error:
        raise OSError(str(error)) from error
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


def _run(kernel: Any, *numbers: int) -> None:
    task = (ctypes.c_int64 * NUMBERS)(*numbers)
    _openmp()(kernel.address, ctypes.addressof(task), torch.get_num_threads(), 0)


def _step(rows: Tensor) -> int:
    """Return the bytes from one row to the next."""
    return rows.stride(0) * rows.element_size()


@lru_cache
def _kernels(halves: bool) -> tuple[Any, Any]:
    """Return the kernels of both ways, for bfloat16 (`halves`) or float32.

    Each takes a task: rows, width of the gate's output, addresses, and bytes from row to row of
    the last.
    """
    return _forwards(halves), _backwards(halves)


def _forwards(halves: bool) -> Any:
    size = 2 if halves else 4
    gate_row, _, _ = _rows_of(halves)

    @_kernel
    def forwards(task: Any) -> None:
        numbers = carray(task, (NUMBERS,))
        rows, half, y, z = numbers[0], numbers[1], numbers[2], numbers[3]
        beside, step = numbers[4], numbers[5]
        while True:
            first = _take(task) * BLOCK
            if first >= rows:
                break
            for row in range(first, min(first + BLOCK, rows)):
                gate_row(
                    y + row * 2 * half * size, z + row * half * size, beside + row * step, half
                )

    return forwards


def _backwards(halves: bool) -> Any:
    size = 2 if halves else 4
    _, grad_row, turn = _rows_of(halves)

    @_kernel
    def backwards(task: Any) -> None:
        numbers = carray(task, (NUMBERS,))
        rows, half, y, grad_z, grad_y = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
        across, z_across, z, step = numbers[5], numbers[6], numbers[7], numbers[8]
        wide = 2 * half * size
        while True:
            first = _take(task) * BLOCK
            if first >= rows:
                break
            for tile in range(first, min(first + BLOCK, rows), LANES):
                start = min(tile, rows - LANES)  # the last tile may do some rows again
                for row in range(start, start + LANES):
                    grad_row(y + row * wide, grad_z + row * half * size, grad_y + row * wide, half)
                for column in range(0, 2 * half, LANES):
                    turn(
                        grad_y + start * wide + column * size,
                        wide,
                        across + (column * rows + start) * size,
                        rows * size,
                    )
                for column in range(0, half, LANES):
                    turn(
                        z + start * step + column * size,
                        step,
                        z_across + (column * rows + start) * size,
                        rows * size,
                    )

    return backwards


def _kernel(function: Callable[[Any], None]) -> Any:
    return cfunc(types.void(TASK))(function)


@emitted(types.int64, TASK)
def _take(builder: Builder, task: Value) -> Value:
    """Return the number of the next block that no thread has taken."""
    place = builder.inttoptr(
        builder.add(builder.ptrtoint(task, I64), I64(8 * NEXT)), I64.as_pointer()
    )
    return builder.atomic_rmw("add", place, I64(1), "monotonic")


@lru_cache
def _rows_of(halves: bool) -> tuple[Any, Any, Any]:
    """Return compiled code for a row of each way, and for a square of sixteen that is turned."""
    size = 2 if halves else 4
    kind = ir.VectorType(I16 if halves else I32, LANES)

    def read(builder: Builder, address: Value) -> Vector:
        if not halves:
            return load(builder, address)
        shorts = builder.load(pointer(builder, address), typ=SHORTS, align=1)
        return (Vector(builder, builder.zext(shorts, INTS)) << 16).floats()

    def write(builder: Builder, numbers: Vector, address: Value) -> None:
        if not halves:
            numbers.store(address)
            return
        bits = numbers.bits()
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, even of two
        shorts = builder.trunc(rounded.value, SHORTS)
        builder.store(shorts, pointer(builder, address), align=2)

    @emitted(types.void, ADDRESS, ADDRESS, ADDRESS, types.int64)
    def gate_row(builder: Builder, y: Value, z: Value, beside: Value, half: Value) -> None:
        behind = builder.add(y, builder.mul(half, I64(size)))
        with cgutils.for_range(builder, builder.sdiv(half, I64(LANES))) as loop:
            at = builder.mul(loop.index, I64(LANES * size))
            a, b = (read(builder, builder.add(place, at)) for place in (y, behind))
            tanh, sigmoid = _tanh_and_sigmoid(a, b)
            for place in (z, beside):
                write(builder, tanh * sigmoid, builder.add(place, at))

    @emitted(types.void, ADDRESS, ADDRESS, ADDRESS, types.int64)
    def grad_row(builder: Builder, y: Value, grad_z: Value, grad_y: Value, half: Value) -> None:
        off = builder.mul(half, I64(size))
        with cgutils.for_range(builder, builder.sdiv(half, I64(LANES))) as loop:
            at = builder.mul(loop.index, I64(LANES * size))
            a, b = (read(builder, builder.add(place, at)) for place in (y, builder.add(y, off)))
            tanh, sigmoid = _tanh_and_sigmoid(a, b)
            grad, one = read(builder, builder.add(grad_z, at)), constant(builder, 1.0)
            write(builder, grad * sigmoid * (one - tanh * tanh), builder.add(grad_y, at))
            behind = builder.add(builder.add(grad_y, off), at)
            write(builder, grad * tanh * sigmoid * (one - sigmoid), behind)

    @emitted(types.void, ADDRESS, types.int64, ADDRESS, types.int64)
    def turn(builder: Builder, source: Value, step: Value, target: Value, stride: Value) -> None:
        places = [builder.add(source, builder.mul(step, I64(line))) for line in range(LANES)]
        lines = [builder.load(pointer(builder, at), typ=kind, align=1) for at in places]
        for line, turned in enumerate(_turned(builder, lines)):
            at = builder.add(target, builder.mul(stride, I64(line)))
            builder.store(turned, pointer(builder, at), align=2)

    return gate_row, grad_row, turn


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
