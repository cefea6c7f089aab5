"""What of future samples can be computed ahead, each block's for as many samples as its dilation.

Compiled by itself, so that one process compiles it while another compiles the loop over samples.
"""

from numba import types

from wavenet.kernels.annotations import numba_type
from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.compiler import Address, called
from wavenet.kernels.elementwise import copy
from wavenet.kernels.references import Reference
from wavenet.kernels.sampler.arrays import (
    CONDITIONING,
    KERNEL_ARGUMENTS,
    PAST_TAPS,
    Functions,
    PackedWeights,
    Request,
    Run,
    Sizes,
    StreamBuffers,
    ThreadShare,
)
from wavenet.kernels.sampler.layers import multiply
from wavenet.kernels.scalars import int_min
from wavenet.kernels.sources import SAMPLER_SOURCES


@called
def conditioning_layer(run: Run, block: int, position: int, row: int) -> None:
    """Compute biases plus local conditioning of the samples from `position` on.

    `row` is the row of that sample in `StreamBuffers.conditioned`; all rows after it are computed.
    """
    share, request, sizes = run.share, run.request, run.sizes
    buffers = run.buffers
    num_streams, width = len(buffers.codes), 2 * sizes.gated
    rows = buffers.conditioned_rows[block] - row
    biases = buffers.biases.ctypes.data
    biases += 4 * (block * num_streams + share.first_stream) * width
    conditioned = buffers.conditioned.ctypes.data + 4 * buffers.conditioned_offsets[block]
    conditioned += 4 * (row * num_streams + share.first_stream) * width
    first = position - request.position
    for s in range(share.num_streams):
        for index in range(rows):
            target = conditioned + 4 * (index * num_streams + s) * width
            copy(target, biases + 4 * s * width, 4 * width)
        sample = (share.first_stream + s) * request.conditioning.shape[1] + first
        start = request.conditioning.ctypes.data + sample * sizes.conditioning_row_bytes
        source = start, sizes.conditioning_row_bytes
        added = conditioned + 4 * s * width, 4 * num_streams * width
        multiply(run, block, CONDITIONING, (0, width), sizes.conditioning, source, added, rows)


@called
def past_taps(run: Run, block: int, position: int, rows: int, sums: Address) -> None:
    """Add the products with past inputs to the look-ahead of `rows` samples from `position` on.

    As many rows at a time as possible: the samples of a stream, or the streams at a sample.
    """
    share, sizes, weights, buffers = run.share, run.sizes, run.weights, run.buffers
    num_streams, ring_rows = len(buffers.codes), buffers.queue_rows[block]
    row_bytes, width = sizes.residual_row_bytes, 2 * sizes.gated
    queue = buffers.queues.ctypes.data + buffers.queue_offsets[block]
    queue += share.first_stream * row_bytes
    by_stream = share.num_streams < rows
    step, stride = (1, num_streams) if by_stream else (num_streams, 1)
    for tap in range(sizes.kernel_size - 1):
        columns = tap * width, width  # the matrices of the taps follow each other
        ring_row = (position + tap * weights.dilations[block]) % ring_rows
        done = 0
        while done < rows:
            now = int_min(rows - done, ring_rows - ring_row)  # up to the end of the ring
            at_once = now if by_stream else share.num_streams
            for index in range(share.num_streams if by_stream else now):
                start = queue + (ring_row * num_streams + index * step) * row_bytes
                target = sums + 4 * (done * num_streams + index * step) * width
                source, added = (start, stride * row_bytes), (target, 4 * stride * width)
                multiply(run, block, PAST_TAPS, columns, sizes.residual, source, added, at_once)
            done, ring_row = done + now, 0


def _look_ahead(
    share: ThreadShare,
    request: Request,
    sizes: Sizes,
    functions: Functions,
    weights: PackedWeights,
    buffers: StreamBuffers,
    block: int,
    position: int,
    row: int,
    rows: int,
) -> None:
    """Compute a block's gate inputs of future samples, except for the current tap's product.

    That is bias, conditioning and the products with past inputs, for `rows` samples (at most the
    dilation) from `position` on; `row` is the first one's row in `StreamBuffers.lookahead`.
    """
    run = Run(share, request, sizes, functions, weights, buffers)
    num_streams, width = len(buffers.codes), 2 * sizes.gated
    sums = buffers.lookahead.ctypes.data + 4 * buffers.lookahead_offsets[block]
    sums += 4 * (row * num_streams + share.first_stream) * width
    start = buffers.biases.ctypes.data
    start += 4 * (block * num_streams + share.first_stream) * width
    stride = 0  # without local conditioning, all samples start from the same sums
    if sizes.conditioning > 0:
        start_row = (position + block) % buffers.conditioned_rows[block]
        if start_row == 0 or position == request.position:
            conditioning_layer(run, block, position, start_row)
        start = buffers.conditioned.ctypes.data + 4 * buffers.conditioned_offsets[block]
        start += 4 * (start_row * num_streams + share.first_stream) * width
        stride = 4 * num_streams * width
    for index in range(rows):
        for s in range(share.num_streams):
            target = sums + 4 * (index * num_streams + s) * width
            copy(target, start + index * stride + 4 * s * width, 4 * width)
    past_taps(run, block, position, rows, sums)


LOOK_AHEAD = types.void(
    *(Reference(numba_type(argument)) for argument in KERNEL_ARGUMENTS), *[types.int64] * 4
)
look_ahead = FunctionByAddress(
    _look_ahead, LOOK_AHEAD, "look-ahead", SAMPLER_SOURCES, is_entry=False
)
