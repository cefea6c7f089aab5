"""Compiled kernels on the OpenMP threads of PyTorch.

PyTorch's threads spin between two operations, so threads of another pool would compete with them.
Kernels run on the same threads: OpenMP's `GOMP_parallel` is what PyTorch's own kernels call.

A kernel works on blocks of rows. A thread starts with its own share, the one it has in PyTorch's
products too, whose data is in its cache; then it helps the others. Every thread computes a row by
the same instructions, so the number of threads changes no bit.
"""

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from llvmlite import binding, ir
from numba import carray, types
from torch import Tensor

from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.compiler import Builder, Value, features, inlined, llvm_function
from wavenet.kernels.sources import SOURCES
from wavenet.kernels.vectors import (
    BFLOAT_VECTOR,
    I16,
    I64,
    INT_VECTOR,
    LANES,
    Vector,
    bfloat16_bits,
    load,
    pointer,
)

BLOCK_ROWS = 128  # rows that a thread takes at a time
TASK_NUMBERS = 16  # of a task, the last one the number of threads; their counters follow
COUNTER_SPACING = 8  # 64-bit numbers from one thread's counter to the next: one cache line
SUPPORTED_DTYPES = (torch.float32, torch.bfloat16)
TASK_POINTER = types.CPointer(types.int64)
BFLOAT_BITS = ir.VectorType(I16, LANES)
THREAD_NUMBER = types.ExternalFunction("omp_get_thread_num", types.int32())


@lru_cache
def gomp_parallel() -> Callable[..., None]:
    """Return the function of PyTorch's OpenMP that runs a function on all threads.

    Raises:
        OSError: PyTorch does not use GNU's OpenMP.
    """
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=getattr(os, "RTLD_NOLOAD", 0))
        parallel, thread_number = library.GOMP_parallel, library.omp_get_thread_num
    except AttributeError as error:
        raise OSError(str(error)) from error
    address = ctypes.cast(thread_number, ctypes.c_void_p).value
    binding.add_symbol(THREAD_NUMBER.symbol, address)
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


def run_kernel(kernel: FunctionByAddress, *numbers: int) -> None:
    """Run a kernel on a task of up to fifteen numbers: sizes and addresses."""
    threads = torch.get_num_threads()
    task = (ctypes.c_int64 * (TASK_NUMBERS + threads * COUNTER_SPACING))(*numbers)
    task[TASK_NUMBERS - 1] = threads
    gomp_parallel()(kernel.address, ctypes.addressof(task), threads, 0)


def row_stride_bytes(rows: Tensor) -> int:
    """Return the bytes from one row to the next."""
    return rows.stride(0) * rows.element_size()


def parallel_kernel(name: str) -> Callable[[Callable[[Any, int, int], None]], FunctionByAddress]:
    """Return a decorator that makes a kernel for `run_kernel`, compiled at its first run.

    The decorated `compute_rows(task, first, last)` gets a task whose first number is the rows.

    Args:
        name: Of the kernel's file in the cache, its own for each dtype.
    """
    gomp_parallel()  # registers the function that returns the number of the thread

    def make(compute_rows: Callable[[Any, int, int], None]) -> FunctionByAddress:
        compute = inlined(compute_rows)

        def kernel(task: Any) -> None:
            numbers = carray(task, (TASK_NUMBERS,))
            rows = numbers[0]
            first = _take_block(task, rows)
            while first < rows:
                compute(numbers, first, min(first + BLOCK_ROWS, rows))
                first = _take_block(task, rows)

        signature = types.void(TASK_POINTER)
        return FunctionByAddress(
            kernel, signature, name, SOURCES, counts_references=True, is_entry=False
        )  # `carray` makes an array

    return make


def dtype_suffix(is_bfloat16: bool) -> str:
    """Return the end of a kernel's name, for the dtype that its tensors are stored in."""
    return "bfloat16" if is_bfloat16 else "float32"


@inlined
def _take_block(task: Any, rows: int) -> int:
    """Return the first row of a block that no thread has taken; `rows` if none is left."""
    blocks, threads = -(-rows // BLOCK_ROWS), carray(task, (TASK_NUMBERS,))[TASK_NUMBERS - 1]
    for other in range(threads):
        thread = (THREAD_NUMBER() + other) % threads
        block = blocks * thread // threads + _count_taken(task, thread)
        if block < blocks * (thread + 1) // threads:
            return int(block * BLOCK_ROWS)
    return rows


@llvm_function(types.int64, TASK_POINTER, types.int64)
def _count_taken(builder: Builder, task: Value, thread: Value) -> Value:
    """Return how many blocks of a thread's share were taken before, and count one more."""
    place = builder.add(I64(TASK_NUMBERS), builder.mul(thread, I64(COUNTER_SPACING)))
    return builder.atomic_rmw("add", builder.gep(task, [place]), I64(1), "monotonic")


def read_vector(builder: Builder, address: Value, is_bfloat16: bool) -> Vector:
    """Read sixteen numbers, stored as bfloat16 or float32."""
    if not is_bfloat16:
        return load(builder, address)
    bits = builder.load(pointer(builder, address), typ=BFLOAT_BITS, align=1)
    return (Vector(builder, builder.zext(bits, INT_VECTOR)) << 16).bits_as_floats()


def write_vector(builder: Builder, numbers: Vector, address: Value, is_bfloat16: bool) -> None:
    """Write sixteen numbers as bfloat16 or float32."""
    align = 2 if is_bfloat16 else 4
    stored = storage_vector(builder, numbers, is_bfloat16)
    builder.store(stored, pointer(builder, address), align=align)


def storage_vector(builder: Builder, numbers: Vector, is_bfloat16: bool) -> Value:
    """Return sixteen numbers as stored: float32, or bfloat16 rounded to nearest, ties to even."""
    if not is_bfloat16:
        return numbers.value
    if "avx512bf16" in features():  # elsewhere LLVM may call a library function that is missing
        return builder.bitcast(builder.fptrunc(numbers.value, BFLOAT_VECTOR), BFLOAT_BITS)
    return builder.trunc(bfloat16_bits(numbers).value, BFLOAT_BITS)
