"""Threads that share the work of a batch: by streams, or by the layers of a single stream.

Threads that share a stream wait for each other: each has a counter of its progress, which only
grows.
"""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from wavenet.kernels.compiler import (
    ADDRESS,
    Address,
    Builder,
    Value,
    features,
    inlined,
    llvm_function,
)
from wavenet.kernels.matmul import BLOCK_OUTPUTS
from wavenet.kernels.vectors import I64, call_llvm, pointer
from wavenet.sampling.cpu.arrays import Sizes, ThreadShare

COUNTER_SPACING = 16  # 64-bit numbers from one thread's counter to the next: two cache lines
FINISHED = 2**62  # a count that releases every waiting thread
SPINS_BEFORE_YIELD = 2000

CAN_YIELD = os.name == "posix"
yield_processor = types.ExternalFunction("sched_yield", types.int32())


def thread_shares(
    sizes: Sizes, num_streams: int, num_threads: int, streams_per_item: int = 1
) -> list[ThreadShare]:
    """Return what each thread does: some of the streams, or a share of one item's layers."""
    items = num_streams // streams_per_item
    if items >= num_threads or items == 0:  # groups of one thread, which has some of the streams
        edges = [
            items * index // num_threads * streams_per_item for index in range(num_threads + 1)
        ]
        groups = [(first, last - first, 1) for first, last in itertools.pairwise(edges)]
    else:  # a group per item
        each, rest = divmod(num_threads, items)
        groups = [
            (item * streams_per_item, streams_per_item, each + (item < rest))
            for item in range(items)
        ]
    shares: list[ThreadShare] = []
    for first, streams, threads in groups:
        progress = np.zeros(threads * COUNTER_SPACING, np.int64)
        for rank in range(threads):
            share = ThreadShare(
                rank=rank,
                num_threads=threads,
                first_stream=first,
                num_streams=streams,
                scratch_row=sum(share.num_streams for share in shares),
                columns=_columns(sizes, threads),
                progress=progress,
                queue_row=np.zeros(sizes.num_blocks, np.int64),
                lookahead_row=np.zeros(sizes.num_blocks, np.int64),
            )
            shares.append(share)
    return shares


def run_shares(kernel: Callable[..., None], shares: Sequence[ThreadShare], *arguments: Any) -> None:
    """Run the kernel on every share in a thread of its own, the first one in this thread."""
    helpers = [threading.Thread(target=kernel, args=(share, *arguments)) for share in shares[1:]]
    try:
        for helper in helpers:
            helper.start()
        kernel(shares[0], *arguments)
        for helper in helpers:
            helper.join()
    except BaseException:
        for share in shares:
            share.progress[:] = FINISHED  # release threads that wait for one that never started
        raise


@lru_cache
def _columns(sizes: Sizes, num_threads: int) -> NDArray[np.int64]:
    """Return each thread's first column of skip, hidden and output, `(3, num_threads + 1)`.

    The head's columns are shared evenly. Of the skip products, rank 0 gets as many as its work on
    the blocks leaves time for; the others also compute the look-ahead.
    """
    even = [1 / num_threads] * num_threads
    columns = [_split_columns(width, even) for width in (sizes.skip, sizes.head, sizes.params)]
    if num_threads > 1:
        in_sequence = 3 * sizes.gated * sizes.residual
        past_taps = 2 * sizes.gated * sizes.residual * (sizes.kernel_size - 1)
        ahead = 0.4 * past_taps  # many rows at once cost less each
        skips, others = sizes.gated * sizes.skip, num_threads - 1
        share = ((skips + ahead) / others - in_sequence) / (skips * (1 + 1 / others))
        share = min(max(share, 0.0), 1 / num_threads)
        columns[0] = _split_columns(sizes.skip, [share, *[(1 - share) / others] * others])
    return np.array(columns, np.int64)


def _split_columns(width: int, shares: Sequence[float]) -> list[int]:
    """Return where each share of a matrix's columns begins and the last ends, in whole blocks."""
    blocks = -(-width // BLOCK_OUTPUTS)
    ends = np.rint(np.cumsum(shares) * blocks).astype(int) * BLOCK_OUTPUTS
    return [0, *(min(int(end), width) for end in ends)]


@llvm_function(types.int64, ADDRESS)
def read_progress(builder: Builder, counter: Value) -> Value:
    """Return another thread's progress; what it wrote before is visible from here on."""
    return builder.load_atomic(pointer(builder, counter), "acquire", 8, typ=I64)


@llvm_function(types.void, ADDRESS, types.int64)
def publish_progress(builder: Builder, counter: Value, number: Value) -> None:
    """Make everything written so far visible to the threads that wait for `number`."""
    place = builder.inttoptr(counter, I64.as_pointer())  # llvmlite requires a typed pointer here
    builder.store_atomic(number, place, "release", 8)


@llvm_function(types.void)
def pause(builder: Builder) -> None:
    """Tell the processor that this is a spin loop."""
    if "sse2" in features():
        call_llvm(builder, "llvm.x86.sse2.pause", ir.VoidType())


@inlined
def wait_for(counter: Address, number: int) -> None:
    """Return when another thread's progress has reached `number`."""
    spins = 0
    while read_progress(counter) < number:
        pause()
        spins += 1
        if CAN_YIELD and spins > SPINS_BEFORE_YIELD:
            yield_processor()


@inlined
def wait_for_all(counters: Address, num_threads: int, number: int) -> None:
    """Return when the progress of all threads has reached `number`."""
    for thread in range(num_threads):
        wait_for(counters + 8 * COUNTER_SPACING * thread, number)
