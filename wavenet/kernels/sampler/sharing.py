"""When the threads of one item share its samples, and when its first thread computes alone.

Threads that share a sample wait for each other at every block. On a busy machine the scheduler
takes a core from one of them for milliseconds, and all of them wait. So rank 0 measures what a
sample takes alone, and counts what shared samples take beyond that. When the debt is too large it
computes alone, for twice the time that was lost or longer, and then invites the other threads
again. It never waits for a thread that has not answered: one that starts late, sleeps or has no
core costs nothing. So busy cores cost at most a third of the speed of one thread.

Every thread computes with the same instructions, so sharing changes no bit.
"""

import os
import time

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from wavenet.kernels.annotations import numba_type
from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.compiler import (
    ADDRESS,
    Address,
    Builder,
    Value,
    called,
    features,
    inlined,
    llvm_function,
)
from wavenet.kernels.references import Reference
from wavenet.kernels.sampler.arrays import ThreadShare
from wavenet.kernels.sources import SAMPLER_SOURCES
from wavenet.kernels.vectors import I32, I64, call_llvm, pointer

COUNTER_SPACING = 16  # 64-bit numbers from one thread's counter to the next: two cache lines
FINISHED = 2**62  # a count that releases every waiting thread

# Counters of a group, after one for the progress of each thread. They only grow, but for LEFT.
INVITED, JOINED, LEFT = 0, 1, 2  # invitations; first shared sample + 1, and the one after the last
NUM_GROUP_COUNTERS = 3
ANSWERED = 1  # in a thread's own slot: the last invitation that it has seen

# Fields of `ThreadShare.pace`; times are in nanoseconds.
ALONE, SHORTEST, WINDOW_START, WINDOWS, WINDOW_SAMPLES = 0, 1, 2, 3, 4
LAST, DEBT, SHARED_SINCE, RESUME_AT, BACKOFF = 5, 6, 7, 8, 9
TOLERANCE, MAX_BACKOFF, NUM_PHASES = 10, 11, 12
PACE_SIZE = 16

SAMPLES_PER_WINDOW = 16  # of which the mean time is taken
DEFAULT_TOLERANCE = 20  # debt that ends sharing, in samples
DEFAULT_MAX_BACKOFF = 250_000_000
SPIN_NANOSECONDS = 100_000  # before a waiting thread gives its core away
SPINS_PER_CLOCK = 64
NAP_MICROSECONDS, PARKED_MICROSECONDS = 50, 500

CAN_NAP = os.name == "posix"
CLOCK = getattr(time, "CLOCK_MONOTONIC", 0)
nap = types.ExternalFunction("usleep", types.int32(types.uint32))


def new_pace(num_threads: int) -> NDArray[np.int64]:
    """Return the paces of all groups of a batch, of prompts and of generated samples."""
    pace = np.zeros((num_threads, 2, PACE_SIZE), np.int64)
    pace[..., TOLERANCE] = DEFAULT_TOLERANCE
    pace[..., MAX_BACKOFF] = DEFAULT_MAX_BACKOFF
    return pace


def new_counters(num_threads: int) -> NDArray[np.int64]:
    """Return the counters of a group before its first sample, when all threads are invited."""
    counters = np.zeros((num_threads + NUM_GROUP_COUNTERS) * COUNTER_SPACING, np.int64)
    counters[(num_threads + INVITED) * COUNTER_SPACING] = 1
    return counters


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


@llvm_function(types.int64)
def nanoseconds(builder: Builder) -> Value:
    """Return a clock that never goes back; 0 where there is none, so nothing seems to take time."""
    if not CAN_NAP:
        return I64(0)
    timespec = cgutils.alloca_once(builder, I64, I64(2))
    call_llvm(builder, "clock_gettime", I32, I32(CLOCK), timespec)
    seconds, rest = (builder.load(builder.gep(timespec, [I64(index)])) for index in range(2))
    return builder.add(builder.mul(seconds, I64(10**9)), rest)


@inlined
def rest(spins: int, since: int, microseconds: int) -> int:
    """Spin once more, or sleep if that lasts too long; return when the spinning began."""
    pause()
    if CAN_NAP and spins % SPINS_PER_CLOCK == 0:
        now = nanoseconds()
        if since == 0:
            since = now
        elif now - since > SPIN_NANOSECONDS:
            nap(microseconds)
    return since


@called
def wait_for(counter: Address, number: int) -> None:
    """Return when another thread's progress has reached `number`."""
    spins, since = 0, 0
    while read_progress(counter) < number:
        spins += 1
        since = rest(spins, since, NAP_MICROSECONDS)


@inlined
def wait_for_all(counters: Address, num_threads: int, number: int) -> None:
    """Return when the progress of all threads has reached `number`."""
    for thread in range(num_threads):
        wait_for(counters + 8 * COUNTER_SPACING * thread, number)


@inlined
def group_counter(share: ThreadShare, name: int) -> Address:
    """Return the address of a counter of the group."""
    return int(share.progress.ctypes.data) + 8 * COUNTER_SPACING * (share.num_threads + name)


@inlined
def begin_samples(share: ThreadShare) -> None:
    """Begin a run: every thread of a group is alone."""
    share.turn[0] = share.turn[1] = 0
    if share.rank == 0 and share.num_threads > 1:
        pace = share.pace
        pace[LAST] = pace[WINDOW_START] = nanoseconds()
        pace[SHORTEST] = pace[WINDOWS] = pace[WINDOW_SAMPLES] = 0


def _next_sample(share: ThreadShare, t: int, length: int, progress: int) -> int:
    """Return the sample that this thread computes now, at or after `t`; `length` if none is left.

    Rank 0 computes every sample and decides here whether it is shared; the others compute only
    shared samples. `share.turn[0]` is 1 if it is, else 0.

    Args:
        share: Of this thread.
        t: Sample after the last one.
        length: Samples of the run.
        progress: Of rank 0 before sample `t`.
    """
    if share.rank > 0:
        return int(_await_sample(share, t, length, progress))
    if t == length:
        if share.turn[0] == 0:
            publish_progress(group_counter(share, JOINED), FINISHED)
    elif share.turn[0] == 1:
        _leave_if_slow(share, t, progress)
    else:
        _join_if_ready(share, t)
    return t


@inlined
def _leave_if_slow(share: ThreadShare, t: int, progress: int) -> None:
    """Go on alone if shared samples have lost too much time."""
    pace, now = share.pace, nanoseconds()
    pace[DEBT] = max(0, pace[DEBT] + now - pace[LAST] - pace[ALONE])
    pace[LAST] = now
    if pace[DEBT] > pace[TOLERANCE] * pace[ALONE]:
        lost = 2 * pace[DEBT]
        if now - pace[SHARED_SINCE] < 4 * pace[BACKOFF]:  # it has been in vain before
            lost = max(lost, min(2 * pace[BACKOFF], pace[MAX_BACKOFF]))
        pace[BACKOFF] = lost
        pace[RESUME_AT] = now + lost
        pace[WINDOW_START] = now
        pace[SHORTEST] = pace[WINDOWS] = pace[WINDOW_SAMPLES] = 0
        share.turn[0] = 0
        publish_progress(group_counter(share, LEFT), t)
        publish_progress(share.progress.ctypes.data, progress + 1)


@inlined
def _join_if_ready(share: ThreadShare, t: int) -> None:
    """Measure samples alone; share again if it is time and all threads answer."""
    pace, now = share.pace, nanoseconds()
    pace[LAST] = now
    if t > 0:
        pace[WINDOW_SAMPLES] += 1
    if pace[WINDOW_SAMPLES] == SAMPLES_PER_WINDOW:
        mean = (now - pace[WINDOW_START]) // SAMPLES_PER_WINDOW
        shortest = mean if pace[WINDOWS] == 0 else min(mean, pace[SHORTEST])
        pace[SHORTEST], pace[WINDOW_START], pace[WINDOW_SAMPLES] = shortest, now, 0
        pace[WINDOWS] += 1
    if now < pace[RESUME_AT] or (pace[ALONE] == 0 and pace[WINDOWS] < 2):
        return
    counters, invited = share.progress.ctypes.data, group_counter(share, INVITED)
    invitation, ready, phase = read_progress(invited), 0, pace[NUM_PHASES]
    for rank in range(1, share.num_threads):
        answered = read_progress(counters + 8 * (COUNTER_SPACING * rank + ANSWERED))
        ready += 1 if answered == invitation else 0
    if share.turn[1] == invitation:  # that one has been used up
        publish_progress(invited, invitation + 1)
    elif ready == share.num_threads - 1:
        if pace[WINDOWS] > 0:
            pace[ALONE] = pace[SHORTEST]
        pace[DEBT], pace[SHARED_SINCE], pace[NUM_PHASES] = 0, now, phase + 1
        share.turn[0], share.turn[1] = 1, invitation
        publish_progress(group_counter(share, LEFT), FINISHED)
        publish_progress(group_counter(share, JOINED), t + 1)


@inlined
def _await_sample(share: ThreadShare, t: int, length: int, progress: int) -> int:
    """Return the next shared sample, when rank 0 has begun it."""
    if share.turn[0] == 1:
        if t == length:
            return t
        wait_for(np.int64(share.progress.ctypes.data), progress + 1)
        if read_progress(group_counter(share, LEFT)) > t:
            return t
        share.turn[0] = 0
    answer = share.progress.ctypes.data + 8 * (COUNTER_SPACING * share.rank + ANSWERED)
    spins, since, seen = 0, 0, read_progress(answer)
    joined = read_progress(group_counter(share, JOINED))
    while joined <= share.turn[1]:
        invitation = read_progress(group_counter(share, INVITED))
        if invitation > seen:
            seen, since = invitation, 0
            publish_progress(answer, invitation)
        spins += 1
        since = rest(spins, since, PARKED_MICROSECONDS)
        joined = read_progress(group_counter(share, JOINED))
    share.turn[0], share.turn[1] = 1, joined
    return int(min(joined - 1, length))


NEXT_SAMPLE = types.int64(Reference(numba_type(ThreadShare)), types.int64, types.int64, types.int64)
next_sample = FunctionByAddress(_next_sample, NEXT_SAMPLE, "next-sample", SAMPLER_SOURCES)
