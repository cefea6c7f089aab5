"""Compiled kernels on the threads that PyTorch has already.

PyTorch's threads wait busily between two products. Threads of another pool would have to wait for
those, so kernels run on the same: OpenMP's `GOMP_parallel` is what PyTorch's own kernels call.

A kernel works on rows, a block at a time. A thread starts with its share, which is its own in
PyTorch's products too, so that it finds in its cache what it left there; then it helps the others.
A row is computed by the same instructions in every thread, so that their number changes no bit.
"""

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from llvmlite import binding, ir
from numba import carray, cfunc
from numba.core import types
from torch import Tensor

from wavenet.kernels.compiler import Builder, Value, emitted, features, inlined
from wavenet.kernels.vectors import BFLOATS, I16, I64, INTS, LANES, Vector, load, pointer

BLOCK = 128  # rows that a thread takes at a time
NUMBERS = 16  # of a task, the last one how many threads there are; counters follow
LINE = 8  # numbers in a line of the cache, one for the counter of each thread
PRECISIONS = (torch.float32, torch.bfloat16)  # that kernels know
TASK = types.CPointer(types.int64)  # type: ignore[attr-defined]
SHORTS = ir.VectorType(I16, LANES)
THREAD_NUMBER = types.ExternalFunction("omp_get_thread_num", types.int32())


@lru_cache
def openmp() -> Callable[..., None]:
    """Return what runs a function on all of PyTorch's threads.

    Raises:
        OSError: PyTorch's OpenMP is another one, or none.
    """
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=getattr(os, "RTLD_NOLOAD", 0))
        found, number = library.GOMP_parallel, library.omp_get_thread_num
    except AttributeError as error:
        raise OSError(str(error)) from error
    binding.add_symbol(THREAD_NUMBER.symbol, ctypes.cast(number, ctypes.c_void_p).value)
    found.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    found.restype = None
    return found


def run(kernel: Any, *numbers: int) -> None:
    """Run a kernel on a task: up to fifteen numbers, sizes and addresses."""
    threads = torch.get_num_threads()
    task = (ctypes.c_int64 * (NUMBERS + threads * LINE))(*numbers)
    task[NUMBERS - 1] = threads
    openmp()(kernel.address, ctypes.addressof(task), threads, 0)


def step(rows: Tensor) -> int:
    """Return the bytes from one row to the next."""
    return rows.stride(0) * rows.element_size()


def kernel(function: Callable[[Any], None]) -> Any:
    """Compile a function of a task."""
    openmp()  # which says where threads have their numbers
    return cfunc(types.void(TASK))(function)


@inlined
def take(task: Any, rows: int) -> int:
    """Return the first row of a block that no thread has taken; `rows` if there is none."""
    blocks, threads = -(-rows // BLOCK), carray(task, (NUMBERS,))[NUMBERS - 1]
    for other in range(threads):
        thread = (THREAD_NUMBER() + other) % threads
        block = blocks * thread // threads + _count(task, thread)
        if block < blocks * (thread + 1) // threads:
            return int(block * BLOCK)
    return rows


@emitted(types.int64, TASK, types.int64)
def _count(builder: Builder, task: Value, thread: Value) -> Value:
    """Return how many blocks of a thread's share were taken before, and count one more."""
    place = builder.add(I64(NUMBERS), builder.mul(thread, I64(LINE)))
    return builder.atomic_rmw("add", builder.gep(task, [place]), I64(1), "monotonic")


def read(builder: Builder, address: Value, halves: bool) -> Vector:
    """Return sixteen numbers of float32, or of bfloat16 where these are `halves`."""
    if not halves:
        return load(builder, address)
    shorts = builder.load(pointer(builder, address), typ=SHORTS, align=1)
    return (Vector(builder, builder.zext(shorts, INTS)) << 16).floats()


def write(builder: Builder, numbers: Vector, address: Value, halves: bool) -> None:
    """Write sixteen numbers as float32, or as bfloat16 where they are to be `halves`."""
    align = 2 if halves else 4
    builder.store(pack(builder, numbers, halves), pointer(builder, address), align=align)


def pack(builder: Builder, numbers: Vector, halves: bool) -> Value:
    """Return sixteen numbers as they lie in memory: bfloat16 is the nearest, the even of two."""
    if not halves:
        return numbers.value
    if "avx512bf16" in features():  # elsewhere LLVM may want a function that nobody has
        return builder.bitcast(builder.fptrunc(numbers.value, BFLOATS), SHORTS)
    bits = numbers.bits()
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return builder.trunc(rounded.value, SHORTS)
