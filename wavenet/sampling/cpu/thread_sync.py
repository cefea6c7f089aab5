"""Progress that threads of a team tell each other: a number each, which only grows."""

import os

from llvmlite import ir
from numba.core import types
from numba.types import ExternalFunction

from wavenet.kernels.compiler import (
    ADDRESS,
    Address,
    Builder,
    Value,
    emitted,
    features,
    inlined,
)
from wavenet.kernels.vectors import I64, function, pointer

LINE = 16  # 64-bit numbers from one thread's progress to the next: two cache lines
THE_END = 2**62  # progress that nobody waits for
PATIENCE = 2000  # looks before the processor is offered to others

YIELDS = os.name == "posix"
offer_processor = ExternalFunction("sched_yield", types.int32())


@emitted(types.int64, ADDRESS)
def progress_at(builder: Builder, flag: Value) -> Value:
    """Return another thread's progress; what it wrote before that can be read from here on."""
    return builder.load_atomic(pointer(builder, flag), "acquire", 8, typ=I64)


@emitted(types.void, ADDRESS, types.int64)
def tell_progress(builder: Builder, flag: Value, number: Value) -> None:
    """Let others see what was written until here."""
    place = builder.inttoptr(flag, I64.as_pointer())  # llvmlite wants a typed one here
    builder.store_atomic(number, place, "release", 8)


@emitted(types.void)
def breathe(builder: Builder) -> None:
    """Tell the processor that this loop only waits."""
    if "sse2" in features():
        builder.call(function(builder, "llvm.x86.sse2.pause", ir.VoidType()), [])


@inlined
def wait_for(flag: Address, number: int) -> None:
    """Return once another thread has come to `number`."""
    looks = 0
    while progress_at(flag) < number:
        breathe()
        looks += 1
        if YIELDS and looks > PATIENCE:
            offer_processor()


@inlined
def wait_for_all(flags: Address, team: int, number: int) -> None:
    """Return once all threads of a team have come to `number`."""
    for other in range(team):
        wait_for(flags + 8 * LINE * other, number)
