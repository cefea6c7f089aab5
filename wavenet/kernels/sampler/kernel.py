"""The loop over samples, compiled once.

A sample passes the blocks one after the other, so the work on this path is kept short. Of a dilated
convolution, the products with past inputs are computed ahead, as many samples as the dilation
allows, several rows at once. What remains in sequence is the current tap, the gate and the residual
product.

All streams of a batch are computed together, so that weights are loaded once. A single stream may
have several threads: rank 0 computes the blocks, the others follow with the skip products and the
look-ahead; all share the head. Where cores are busy, rank 0 computes alone (`sharing.py`). Every
sum has a fixed order of terms: batch size, number of threads and chunk size change no bit.

WaveNet, sections 2.1 to 2.5; the queues are Fast WaveNet's (arXiv:1611.09482). The page on kernels,
docs/explanation/kernels.md, has a picture.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from wavenet.kernels.annotations import numba_type
from wavenet.kernels.by_address import call_of
from wavenet.kernels.cache import KernelCache
from wavenet.kernels.compiler import Address, compiled, compiling, inlined, set_cache
from wavenet.kernels.elementwise import copy, guide
from wavenet.kernels.private_files import private_folder
from wavenet.kernels.references import in_memory
from wavenet.kernels.sampler.arrays import (
    BIASES,
    KERNEL_ARGUMENTS,
    Functions,
    PackedWeights,
    Request,
    Run,
    Sizes,
    StreamBuffers,
    ThreadShare,
)
from wavenet.kernels.sampler.class_draw import DRAW_CLASS
from wavenet.kernels.sampler.layers import (
    gated_layer,
    head_layer,
    input_layer,
    residual_layer,
    skip_layer,
)
from wavenet.kernels.sampler.look_ahead import LOOK_AHEAD
from wavenet.kernels.sampler.mixture_draw import DRAW_FROM_MIXTURE
from wavenet.kernels.sampler.prediction import predict_samples, shift_params
from wavenet.kernels.sampler.sharing import (
    COUNTER_SPACING,
    NEXT_SAMPLE,
    begin_samples,
    publish_progress,
    wait_for,
    wait_for_all,
)
from wavenet.kernels.second_process import KERNEL
from wavenet.kernels.sources import SAMPLER_SOURCES

call_class, call_mixture = call_of(DRAW_CLASS), call_of(DRAW_FROM_MIXTURE)
call_next_sample, call_look_ahead = call_of(NEXT_SAMPLE), call_of(LOOK_AHEAD)


class Activations(NamedTuple):
    """Addresses in the activations of a thread's first stream."""

    x: Address
    skip: Address
    hidden: Address
    params: Address
    gated: Address  # encoded rows of all blocks


@lru_cache
def make_kernel() -> Any:
    """Return `kernel(share, request, sizes, functions, weights, buffers)`, the same for all models.

    `compile_kernel` compiles it.
    """

    def kernel(
        share: ThreadShare,
        request: Request,
        sizes: Sizes,
        functions: Functions,
        weights: PackedWeights,
        buffers: StreamBuffers,
    ) -> None:
        run = Run(
            in_memory(share),
            in_memory(request),
            in_memory(sizes),
            in_memory(functions),
            in_memory(weights),
            in_memory(buffers),
        )
        generate_samples(run)

    return compiled(kernel, counts_references=False)


def compile_kernel() -> None:
    """Compile the kernel, or load it from the cache, unless this process has it."""
    kernel = make_kernel()
    if not kernel.signatures:
        set_cache(kernel, KernelCache(KERNEL, private_folder(), SAMPLER_SOURCES))
        with compiling():
            kernel.compile(tuple(map(numba_type, KERNEL_ARGUMENTS)))


@inlined
def generate_samples(run: Run) -> None:
    """Generate `request.length` samples of this thread's streams."""
    share, request, buffers = run.share, run.request, run.buffers
    at, is_alone = locate_activations(run), share.num_threads == 1
    begin_samples(share)
    t, next_sample = np.int64(0), run.functions.next_sample
    if not is_alone:
        t = call_next_sample(next_sample, share, t, request.length, t)
    find_rows(run, request.position + t)
    if share.rank == 0 and request.refill_lookahead:
        for block in range(run.sizes.num_blocks):
            row, rows = share.lookahead_row[block], buffers.lookahead_rows[block]
            refill_look_ahead(run, block, request.position, row, rows - row)
    counts = run.sizes.num_blocks + 3  # of a sample: one per block, three for the head
    while t < request.length:
        compute_sample(run, t, t * counts, at)
        t += 1
        if not is_alone:
            following = call_next_sample(next_sample, share, t, request.length, t * counts)
            if following > t:
                find_rows(run, request.position + following)
            t = following


@inlined
def compute_sample(run: Run, t: int, progress: int, at: Activations) -> None:
    """Compute sample `t` of the request; `progress` is that of rank 0 before it."""
    share, request, sizes = run.share, run.request, run.sizes
    num_blocks, leads = sizes.num_blocks, share.rank == 0
    if leads:
        if sizes.order > 0:
            predict_samples(run, t)
        input_layer(run, at.x)
        start_skip(run, at.skip)
    for block in range(num_blocks):
        compute_block(run, block, progress, at)
        advance_rings(run, block, request.position + t + 1)
    if leads and request.needs_params:
        for block in range(0 if share.turn[0] == 1 else num_blocks - 1, num_blocks):
            z = at.gated + block * sizes.gated_row_bytes
            skip_layer(run, block, z, at.skip)
    compute_head(run, progress + num_blocks, at)
    if leads:
        choose_codes(run, t, at.params)


@inlined
def locate_activations(run: Run) -> Activations:
    """Return where the activations of this thread's first stream are."""
    share, sizes, buffers = run.share, run.sizes, run.buffers
    x = buffers.activations.ctypes.data + share.first_stream * sizes.activation_bytes
    skip = x + 4 * sizes.residual
    hidden = skip + 4 * sizes.skip
    params = hidden + 4 * sizes.head
    return Activations(x, skip, hidden, params, params + 3 * 4 * sizes.params)


@inlined
def find_rows(run: Run, position: int) -> None:
    """Find the rows of the sample at `position` in all rings."""
    share, buffers = run.share, run.buffers
    for block in range(run.sizes.num_blocks):
        share.queue_row[block] = position % buffers.queue_rows[block]
        share.lookahead_row[block] = (position + block) % buffers.lookahead_rows[block]


@inlined
def start_skip(run: Run, skip: Address) -> None:
    """Set the sum of the skips to their biases."""
    share, sizes, weights = run.share, run.sizes, run.weights
    bias = weights.vectors.ctypes.data + 4 * weights.offsets[sizes.num_blocks, BIASES]
    for s in range(share.num_streams):
        copy(skip + s * sizes.activation_bytes, bias, 4 * sizes.skip)


@inlined
def compute_block(run: Run, block: int, progress: int, at: Activations) -> None:
    """Compute a block (rank 0), or its skip product once its gate has been computed (others)."""
    share, request, sizes = run.share, run.request, run.sizes
    counters, z = np.int64(share.progress.ctypes.data), at.gated + block * sizes.gated_row_bytes
    if share.rank == 0:
        gated_layer(run, block, at.x, z)
        if share.turn[0] == 1:
            publish_progress(counters, progress + block + 1)
        elif block > 0 and request.needs_params:  # the previous block's hides the gate's latency
            previous_z = z - sizes.gated_row_bytes
            skip_layer(run, block - 1, previous_z, at.skip)
        if block < sizes.num_blocks - 1:
            residual_layer(run, block, z, at.x)
    else:
        wait_for(counters, progress + block + 1)
        if request.needs_params:
            skip_layer(run, block, z, at.skip)


@inlined
def refill_look_ahead(run: Run, block: int, position: int, row: int, rows: int) -> None:
    """Compute the look-ahead of a block for `rows` samples from `position` on."""
    call_look_ahead(
        run.functions.look_ahead,
        run.share,
        run.request,
        run.sizes,
        run.functions,
        run.weights,
        run.buffers,
        block,
        position,
        row,
        rows,
    )


@inlined
def advance_rings(run: Run, block: int, position: int) -> None:
    """Advance a block's rings to the sample at `position`; refill its look-ahead if used up.

    The rows are counted, since a remainder per block and sample would be slow.
    """
    share, buffers = run.share, run.buffers
    rows, helpers = buffers.lookahead_rows[block], share.turn[0] * (share.num_threads - 1)
    if share.lookahead_row[block] < rows - 1:
        share.lookahead_row[block] += 1
    else:
        share.lookahead_row[block] = 0
        if helpers == 0 or block % helpers == share.rank - 1:
            refill_look_ahead(run, block, position, np.int64(0), rows)
    share.queue_row[block] += 1
    if share.queue_row[block] == buffers.queue_rows[block]:
        share.queue_row[block] = 0


@inlined
def compute_head(run: Run, progress: int, at: Activations) -> None:
    """Compute the parameters of the sample; every thread computes its columns of both layers."""
    share, request = run.share, run.request
    counters = np.int64(share.progress.ctypes.data)
    counter = counters + 8 * COUNTER_SPACING * share.rank
    for layer in range(2):
        if share.turn[0] == 1:
            publish_progress(counter, progress + 1 + layer)
            wait_for_all(counters, share.num_threads, progress + 1 + layer)
        if request.needs_params:
            x, y = (at.skip, at.hidden) if layer == 0 else (at.hidden, at.params)
            head_layer(run, layer, x, y)
    if share.turn[0] == 1:
        publish_progress(counter, progress + 3)
        if share.rank == 0:
            wait_for_all(counters, share.num_threads, progress + 3)


@inlined
def choose_codes(run: Run, t: int, params: Address) -> None:
    """Draw each stream's code, or take the forced one; put it before the last codes."""
    share, request, sizes, buffers = run.share, run.request, run.sizes, run.buffers
    if sizes.order > 0 and request.needs_params:
        shift_params(run, params)
    for s in range(share.num_streams):
        stream, own_params = share.first_stream + s, params + s * sizes.activation_bytes
        if request.params.shape[1] > 0:
            target = request.params.ctypes.data
            target += 4 * (stream * request.length + t) * sizes.unpadded_params
            copy(target, own_params, 4 * sizes.unpadded_params)
        if request.forced_codes.shape[1] > 0:
            code = np.int64(request.forced_codes[stream, t])
        elif stream % request.streams_per_item > 0:  # the unconditional stream follows its item
            code = np.int64(request.codes[stream - 1, t])
        else:
            item = stream // request.streams_per_item
            code = draw_code(run, item, t, own_params)
        request.codes[stream, t] = code
        for tap in range(sizes.input_kernel_size - 1, 0, -1):
            for signal in range(sizes.num_signals):
                buffers.codes[stream, signal, tap] = buffers.codes[stream, signal, tap - 1]
        buffers.codes[stream, 0, 0] = code if code > 0 else 0


@inlined
def draw_code(run: Run, item: int, t: int, params: Address) -> int:
    """Draw one item's code from its parameters, under classifier-free guidance if it has one."""
    request, sizes, weights = run.request, run.sizes, run.weights
    temperature, given = request.temperature, request.prediction
    if given.is_voiced.shape[1] > 0:
        stream = item * request.streams_per_item
        if given.is_voiced[stream, given.part_of_sample[t]]:
            temperature = request.voiced_temperature
    if request.streams_per_item > 1:
        unconditional = params + sizes.activation_bytes
        guide(params, unconditional, sizes.params, np.float32(request.guidance_scale))
    if sizes.num_mixtures > 0:
        code: int = call_mixture(
            run.functions.draw,
            params,
            sizes.num_mixtures,
            sizes.is_gaussian,
            weights.min_log_scale,
            request.noise[item, t, 0],
            request.noise[item, t, request.noise.shape[2] - 1],
            temperature,
        )
    else:
        scratch = params + 4 * sizes.params
        code = call_class(
            run.functions.draw,
            params,
            scratch,
            scratch + 4 * sizes.params,
            sizes.params,
            request.noise[item, t, 0],
            temperature,
            request.top_k,
            request.top_p,
            request.probability_floor,
        )
    return code
