"""Threads that share the work of a batch: by streams, or by the layers of a single stream.

Threads that share a stream wait for each other; `sharing.py` has how, and when they do not.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.kernels.matmul import BLOCK_OUTPUTS
from wavenet.kernels.sampler.arrays import Sizes, ThreadShare
from wavenet.kernels.sampler.sharing import FINISHED, new_counters, new_pace


def thread_shares(
    sizes: Sizes,
    num_streams: int,
    num_threads: int,
    streams_per_item: int = 1,
    pace: NDArray[np.int64] | None = None,
) -> list[ThreadShare]:
    """Return what each thread does: some of the streams, or a share of one item's layers.

    Args:
        sizes: Of the model.
        num_streams: Of the batch.
        num_threads: Of all groups.
        streams_per_item: 2 with classifier-free guidance.
        pace: What groups have measured so far, `(num_threads, PACE_SIZE)`.
    """
    pace = new_pace(num_threads)[:, 0].copy() if pace is None else pace
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
    for group, (first, streams, threads) in enumerate(groups):
        progress = new_counters(threads)
        for rank in range(threads):
            share = ThreadShare(
                rank=rank,
                num_threads=threads,
                first_stream=first,
                num_streams=streams,
                scratch_row=sum(share.num_streams for share in shares),
                columns=_columns(sizes, threads),
                progress=progress,
                pace=pace[group],
                turn=np.zeros(2, np.int64),
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
    """Return each thread's first column of skip, hidden and output, alone and shared.

    Of shape `(2, 3, num_threads + 1)`; alone, rank 0 has all columns.

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
    alone = [[0] + [width] * num_threads for width in (sizes.skip, sizes.head, sizes.params)]
    return np.array([alone, columns], np.int64)


def _split_columns(width: int, shares: Sequence[float]) -> list[int]:
    """Return where each share of a matrix's columns begins and the last ends, in whole blocks."""
    blocks = -(-width // BLOCK_OUTPUTS)
    ends = np.rint(np.cumsum(shares) * blocks).astype(int) * BLOCK_OUTPUTS
    return [0, *(min(int(end), width) for end in ends)]
