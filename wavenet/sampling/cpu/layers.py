"""The layers of one sample, each for all streams of a thread.

`product` and `encode` are the compiled functions of the weight dtype; all others are inlined into
the kernel, which is optimized as one unit. `x`, `z`, `skip` and the like are addresses in a
stream's activations.
"""

from typing import Any

from wavenet.kernels.compiler import Address, inlined
from wavenet.kernels.elementwise import add, copy, gate, relu, scale_add
from wavenet.modules.conv import SILENCE_CODE
from wavenet.sampling.cpu.arrays import (
    BIASES,
    CONDITIONING,
    CURRENT_TAP,
    HIDDEN,
    OUTPUT,
    PAST_TAPS,
    RESIDUAL,
    SKIP,
    PackedWeights,
    Run,
)


@inlined
def find_matrix(weights: PackedWeights, row: int, column: int) -> tuple[int, int]:
    """Return the offsets of a matrix and of its scales."""
    return weights.offsets[row, column], weights.offsets[row, column + 1]


@inlined
def multiply(
    product: Any,
    weights: PackedWeights,
    matrix: tuple[int, int],
    inputs: int,
    columns: tuple[int, int],
    x: tuple[Address, int],
    y: tuple[Address, int],
    rows: int,
) -> None:
    """Add W x to y in the outputs of `columns`.

    Args:
        product: Compiled matrix product.
        weights: The model.
        matrix: Offsets of the matrix and of its scales.
        inputs: Width of `x`.
        columns: First output, and the one after the last.
        x: Address of the first encoded row, and the bytes to the next one.
        y: Address of the first row, and the bytes to the next one.
        rows: How many.
    """
    first, last = columns
    weight_bytes = weights.matrices.itemsize
    product(
        weights.matrices.ctypes.data + matrix[0] + first * inputs * weight_bytes,
        weights.scales.ctypes.data + 4 * (matrix[1] + first),
        inputs,
        last - first,
        x[0],
        x[1],
        x[0] + inputs * max(weight_bytes, 2),  # an int8 row holds 16-bit integers, then its scale
        y[0] + 4 * first,
        y[1],
        rows,
    )


@inlined
def input_layer(run: Run, x: Address) -> None:
    """Compute x = the sum of one table row per tap and signal of the first convolution."""
    share, sizes, weights, buffers = run.share, run.sizes, run.weights, run.buffers
    tables = weights.vectors.ctypes.data + 4 * weights.table_offset
    for s in range(share.num_streams):
        target = x + s * sizes.activation_bytes
        for tap in range(sizes.input_kernel_size):
            for signal in range(sizes.num_signals):
                code = buffers.codes[share.first_stream + s, signal, tap]
                if code == SILENCE_CODE:
                    continue
                table = (sizes.input_kernel_size - 1 - tap) * sizes.num_signals + signal
                row = table * weights.num_classes + weights.class_of_code[code]
                source = tables + 4 * row * sizes.residual
                if tap == 0 and signal == 0:
                    copy(target, source, 4 * sizes.residual)
                else:
                    add(target, source, sizes.residual)


@inlined
def gated_layer(product: Any, encode: Any, run: Run, block: int, x: Address, z: Address) -> None:
    """Compute z = the gate's output, encoded; put x into its row of the block's queue.

    The current tap's product is added to the look-ahead, which already holds everything else.
    """
    share, sizes, weights, buffers = run.share, run.sizes, run.weights, run.buffers
    num_streams, width = len(buffers.codes), 2 * sizes.gated
    queue = buffers.queues.ctypes.data + buffers.queue_offsets[block]
    queue += (share.queue_row[block] * num_streams + share.first_stream) * sizes.residual_row_bytes
    sums = buffers.lookahead.ctypes.data + 4 * buffers.lookahead_offsets[block]
    sums += 4 * (share.lookahead_row[block] * num_streams + share.first_stream) * width
    scratch = buffers.scratch.ctypes.data + share.scratch_row * sizes.scratch_bytes
    for s in range(share.num_streams):
        target = queue + s * sizes.residual_row_bytes
        encode(target, x + s * sizes.activation_bytes, sizes.residual)
    matrix, source = find_matrix(weights, block, CURRENT_TAP), (queue, sizes.residual_row_bytes)
    added = sums, 4 * width
    multiply(product, weights, matrix, sizes.residual, (0, width), source, added, share.num_streams)
    is_float32 = weights.matrices.itemsize == 4
    for s in range(share.num_streams):
        target = z + s * sizes.activation_bytes
        gate(target if is_float32 else scratch, sums + 4 * s * width, sizes.gated)
        if not is_float32:
            encode(target, scratch, sizes.gated)


@inlined
def residual_layer(product: Any, run: Run, block: int, z: Address, x: Address) -> None:
    """Compute x = x * residual_scale + W z + bias, whose scale is folded into weights and bias."""
    share, sizes, weights = run.share, run.sizes, run.weights
    bias = weights.vectors.ctypes.data + 4 * (weights.offsets[block, BIASES] + 2 * sizes.gated)
    for s in range(share.num_streams):
        target = x + s * sizes.activation_bytes
        scale_add(target, weights.residual_scale, bias, sizes.residual)
    matrix, columns = find_matrix(weights, block, RESIDUAL), (0, sizes.residual)
    source, added = (z, sizes.activation_bytes), (x, sizes.activation_bytes)
    multiply(product, weights, matrix, sizes.gated, columns, source, added, share.num_streams)


@inlined
def skip_layer(product: Any, run: Run, block: int, z: Address, skip: Address) -> None:
    """Add a block's skip product, in this thread's columns."""
    share, sizes, weights = run.share, run.sizes, run.weights
    matrix = find_matrix(weights, block, SKIP)
    shared, rank = share.turn[0], share.rank
    columns = share.columns[shared, 0, rank], share.columns[shared, 0, rank + 1]
    source, added = (z, sizes.activation_bytes), (skip, sizes.activation_bytes)
    multiply(product, weights, matrix, sizes.gated, columns, source, added, share.num_streams)


@inlined
def head_layer(product: Any, encode: Any, run: Run, layer: int, x: Address, y: Address) -> None:
    """Compute y = W ReLU(x) + bias, in this thread's columns; `layer` 0 is hidden, 1 output."""
    share, sizes, weights, buffers = run.share, run.sizes, run.weights, run.buffers
    inputs, column = (sizes.skip, HIDDEN) if layer == 0 else (sizes.head, OUTPUT)
    head = sizes.num_blocks  # its row of the offsets
    bias = weights.offsets[head, BIASES] + sizes.skip + layer * sizes.head
    bias = weights.vectors.ctypes.data + 4 * bias
    shared, rank = share.turn[0], share.rank
    first = share.columns[shared, 1 + layer, rank]
    last = share.columns[shared, 1 + layer, rank + 1]
    scratch = buffers.scratch.ctypes.data + share.scratch_row * sizes.scratch_bytes
    encoded = scratch + 4 * max(sizes.skip, sizes.head)
    for s in range(share.num_streams):
        rectified = scratch + s * sizes.scratch_bytes
        relu(rectified, x + s * sizes.activation_bytes, inputs)
        encode(encoded + s * sizes.scratch_bytes, rectified, inputs)
        copy(y + s * sizes.activation_bytes + 4 * first, bias + 4 * first, 4 * (last - first))
    matrix = find_matrix(weights, head, column)
    source, added = (encoded, sizes.scratch_bytes), (y, sizes.activation_bytes)
    multiply(product, weights, matrix, inputs, (first, last), source, added, share.num_streams)


@inlined
def conditioning_layer(product: Any, run: Run, block: int, position: int, row: int) -> None:
    """Compute biases plus local conditioning of the samples from `position` on.

    `row` is the row of that sample in `StreamBuffers.conditioned`; all rows after it are computed.
    """
    share, request, sizes = run.share, run.request, run.sizes
    weights, buffers = run.weights, run.buffers
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
        matrix, columns = find_matrix(weights, block, CONDITIONING), (0, width)
        source = start, sizes.conditioning_row_bytes
        added = conditioned + 4 * s * width, 4 * num_streams * width
        multiply(product, weights, matrix, sizes.conditioning, columns, source, added, rows)


@inlined
def past_taps(product: Any, run: Run, block: int, position: int, rows: int, sums: Address) -> None:
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
    matrix, scales = find_matrix(weights, block, PAST_TAPS)
    tap_bytes = width * sizes.residual * weights.matrices.itemsize
    for tap in range(sizes.kernel_size - 1):
        ring_row = (position + tap * weights.dilations[block]) % ring_rows
        done = 0
        while done < rows:
            now = min(rows - done, ring_rows - ring_row)  # up to the end of the ring
            for index in range(share.num_streams if by_stream else now):
                start = queue + (ring_row * num_streams + index * step) * row_bytes
                target = sums + 4 * (done * num_streams + index * step) * width
                multiply(
                    product,
                    weights,
                    (matrix + tap * tap_bytes, scales + tap * width),
                    sizes.residual,
                    (0, width),
                    (start, stride * row_bytes),
                    (target, 4 * stride * width),
                    now if by_stream else share.num_streams,
                )
            done, ring_row = done + now, 0


@inlined
def look_ahead(product: Any, run: Run, block: int, position: int, row: int, rows: int) -> None:
    """Compute a block's gate inputs of future samples, except for the current tap's product.

    That is bias, conditioning and the products with past inputs, for `rows` samples (at most the
    dilation) from `position` on; `row` is the first one's row in `StreamBuffers.lookahead`.
    """
    share, request, sizes, buffers = run.share, run.request, run.sizes, run.buffers
    num_streams, width = len(buffers.codes), 2 * sizes.gated
    sums = buffers.lookahead.ctypes.data + 4 * buffers.lookahead_offsets[block]
    sums += 4 * (row * num_streams + share.first_stream) * width
    start = buffers.biases.ctypes.data
    start += 4 * (block * num_streams + share.first_stream) * width
    stride = 0  # without local conditioning, all samples start from the same sums
    if sizes.conditioning > 0:
        start_row = (position + block) % buffers.conditioned_rows[block]
        if start_row == 0 or position == request.position:
            conditioning_layer(product, run, block, position, start_row)
        start = buffers.conditioned.ctypes.data + 4 * buffers.conditioned_offsets[block]
        start += 4 * (start_row * num_streams + share.first_stream) * width
        stride = 4 * num_streams * width
    for index in range(rows):
        for s in range(share.num_streams):
            target = sums + 4 * (index * num_streams + s) * width
            copy(target, start + index * stride + 4 * s * width, 4 * width)
    past_taps(product, run, block, position, rows, sums)
