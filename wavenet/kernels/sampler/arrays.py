"""The arrays that the kernel works on, and the arguments of one run (see the page on kernels).

Numba compiles functions of named tuples. Widths are padded to multiples of 16, arrays are flat, and
the kernel computes addresses from the offsets that stand here.
"""

from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.kernels.compiler import Address
from wavenet.kernels.past_coefficients import PastConstants, PastSolver

Flags = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]

# Columns of `PackedWeights.offsets`: a matrix's first byte; its first scale is one column on.
CURRENT_TAP, PAST_TAPS, RESIDUAL, SKIP, CONDITIONING = 0, 2, 4, 6, 8  # of a block
HIDDEN, OUTPUT = 0, 2  # of the head
BIASES = 10  # of a block: gate, residual; of the head: skip, hidden, output
NUM_OFFSETS = 11

MAX_LOOKAHEAD_ROWS = 24  # samples of look-ahead: enough to read past taps' weights rarely
MAX_CONDITIONED_ROWS = 32  # samples whose conditioning is multiplied at once


class Sizes(NamedTuple):
    """Shapes of all arrays; widths are padded to multiples of 16."""

    num_blocks: int
    residual: int
    gated: int  # width of the gate's output; the gate's input is twice as wide
    skip: int
    head: int
    params: int
    unpadded_params: int
    kernel_size: int
    input_kernel_size: int
    num_signals: int  # whose codes the first convolution sees: the samples, and two of prediction
    order: int  # of the linear predictor, padded; 0 for none
    memory: int  # past samples that it needs, padded
    interval: int  # samples from coefficients of the past to the next; 0 for given coefficients
    residual_row_bytes: int  # of an encoded row of activations
    gated_row_bytes: int
    is_encoded: bool  # activations are not in float32
    conditioning: int  # channels of local conditioning; 0 for none
    conditioning_row_bytes: int
    num_mixtures: int  # 0 for a categorical distribution
    is_gaussian: bool  # a mixture's densities: Gaussian or logistic
    activation_bytes: int  # of a stream in `StreamBuffers.activations`
    scratch_bytes: int  # of a row of `StreamBuffers.scratch`


class Functions(NamedTuple):
    """Addresses of the functions that a model needs, of `wavenet.kernels.by_address`."""

    product: Address  # of the weight dtype
    encode: Address
    look_ahead: Address
    draw: Address  # of the distribution
    solve_past: Address  # 0 for a model whose coefficients do not come from the past
    next_sample: Address  # of threads that share samples; 0 for one that is always alone


class PackedWeights(NamedTuple):
    """The model."""

    matrices: Annotated[Bytes, 1]  # of float32, bfloat16 or int8, by the weight dtype
    scales: Annotated[Floats, 1]  # of int8 matrices, one per output
    vectors: Annotated[Floats, 1]  # biases; input tables, (taps, signals, classes, residual)
    offsets: Annotated[Longs, 2]  # (blocks + 1, NUM_OFFSETS); the last row is the head's
    dilations: Annotated[Longs, 1]
    residual_scale: np.float32
    min_log_scale: float  # of a mixture's densities
    table_offset: int  # of the input tables in `vectors`
    num_classes: int  # rows of an input table
    class_of_code: Annotated[Ints, 1]  # the row of each code
    past: PastConstants  # of a linear predictor whose coefficients come from the past


class StreamBuffers(NamedTuple):
    """Everything that depends on the streams of a batch: their state, and scratch memory."""

    queues: Annotated[Bytes, 1]  # per block a ring (queue_rows, streams, encoded row)
    queue_offsets: Annotated[Longs, 1]  # of each block, in bytes
    queue_rows: Annotated[Longs, 1]  # past samples that a block needs, at least one
    lookahead: Annotated[Floats, 1]  # per block a ring (lookahead_rows, streams, 2 * gated)
    lookahead_offsets: Annotated[Longs, 1]
    lookahead_rows: Annotated[Longs, 1]
    biases: Annotated[Floats, 1]  # (blocks, streams, 2 * gated): bias plus global conditioning
    conditioned: Annotated[Floats, 1]  # per block (conditioned_rows, streams, 2 * gated): `biases`
    conditioned_offsets: Annotated[Longs, 1]  # plus local conditioning of the next samples
    conditioned_rows: Annotated[Longs, 1]  # a multiple of lookahead_rows
    codes: Annotated[Ints, 3]  # (streams, signals, input_kernel_size): last codes, newest first
    history: Annotated[Ints, 2]  # (streams, 2 * memory): twice the ring of the last 16-bit samples
    coefficients: Annotated[Ints, 2]  # of the past, (streams, order), in units of 2^-20
    solver: PastSolver
    prediction: Annotated[Floats, 2]  # (streams, 2): the last prediction and its residual's scale
    activations: Annotated[Bytes, 1]  # (streams, activation_bytes): of the current sample
    scratch: Annotated[Bytes, 1]  # (streams or threads, scratch_bytes)


class ThreadShare(NamedTuple):
    """The work of one thread: some streams, or a share of the layers of one item's streams."""

    rank: int  # among the threads of these streams; 0 computes the blocks
    num_threads: int  # that share these streams
    first_stream: int
    num_streams: int
    scratch_row: int  # first row of `StreamBuffers.scratch` for this thread
    columns: Annotated[Longs, 3]  # (2, 3, num_threads + 1): of skip, hidden and output, by turn[0]
    progress: Annotated[Longs, 1]  # counters of the group, COUNTER_SPACING apart; `sharing.py`
    pace: Annotated[Longs, 1]  # (PACE_SIZE,): what the group has measured
    turn: Annotated[Longs, 1]  # (2,): 1 while it shares samples, and the last call to do so
    queue_row: Annotated[Longs, 1]  # scratch: row of the current sample in each block's queue
    lookahead_row: Annotated[Longs, 1]  # and in its look-ahead


class PredictionRequest(NamedTuple):
    """The coefficients of the linear predictor in one run, by sub-frame."""

    coefficients: Annotated[Ints, 3]  # (streams, parts, order), in units of 2^-20
    scales: Annotated[Floats, 2]  # of the residual, (streams, parts)
    part_of_sample: Annotated[Longs, 1]  # (length,)
    is_voiced: Annotated[Flags, 2]  # (streams, parts) for `voiced_temperature`; or (1, 0)


class Request(NamedTuple):
    """What all threads compute in one run."""

    length: int
    position: int  # samples that came before
    refill_lookahead: bool  # the look-ahead of the first samples has not been computed
    needs_params: bool  # False for a prompt: the head is left out
    noise: Annotated[Floats, 3]  # (items, length, uniforms of a draw)
    conditioning: Annotated[Bytes, 3]  # (streams, length + MAX_CONDITIONED_ROWS, row) or empty
    prediction: PredictionRequest
    forced_codes: Annotated[Ints, 2]  # (streams, length), used instead of draws; or (streams, 0)
    params: Annotated[Floats, 3]  # (streams, length, unpadded_params) to be filled; or empty
    codes: Annotated[Ints, 2]  # (streams, length) to be filled
    temperature: float
    voiced_temperature: float  # of the parts that are voiced
    top_k: int  # 0 for all
    top_p: float  # 1 for all
    probability_floor: float
    streams_per_item: int  # 2 with classifier-free guidance: conditional, unconditional
    guidance_scale: float


class Run(NamedTuple):
    """All arguments of the kernel."""

    share: ThreadShare
    request: Request
    sizes: Sizes
    functions: Functions
    weights: PackedWeights
    buffers: StreamBuffers


KERNEL_ARGUMENTS = (ThreadShare, Request, Sizes, Functions, PackedWeights, StreamBuffers)
