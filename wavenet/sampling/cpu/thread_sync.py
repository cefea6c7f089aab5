"""Progress of threads that share the work of one stream: per thread a counter that only grows."""

import os

from llvmlite import ir
from numba import types

from wavenet.kernels.compiler import ADDRESS, Address, Builder, Value, inlined, llvm_function
from wavenet.kernels.numba_internals import features
from wavenet.kernels.vectors import I64, declare, pointer

COUNTER_SPACING = 16  # 64-bit numbers from one thread's counter to the next: two cache lines
FINISHED = 2**62  # a count that releases every waiting thread
SPINS_BEFORE_YIELD = 2000

CAN_YIELD = os.name == "posix"
yield_processor = types.ExternalFunction("sched_yield", types.int32())


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
        builder.call(declare(builder, "llvm.x86.sse2.pause", ir.VoidType()), [])


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
