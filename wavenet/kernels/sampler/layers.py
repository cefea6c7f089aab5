"""The layers of one sample, each for all streams of a thread.

The product and the encoding are functions of the weight dtype, called by their address. A layer is
a function that the kernel calls: inlined, it would be compiled again at every call, and compilation
would take half as long again. `x`, `z`, `skip` and the like are addresses in a stream's
activations.
"""

from wavenet.kernels.by_address import call_of
from wavenet.kernels.compiler import Address, called, inlined
from wavenet.kernels.elementwise import ENCODE, add, copy, gate, relu, scale_add
from wavenet.kernels.matmul import PRODUCT
from wavenet.kernels.sampler.arrays import (
    BIASES,
    CURRENT_TAP,
    HIDDEN,
    OUTPUT,
    RESIDUAL,
    SKIP,
    Run,
)
from wavenet.kernels.scalars import int_max
from wavenet.utils.shared_constants import SILENCE_CODE

call_product, call_encode = call_of(PRODUCT), call_of(ENCODE)


@inlined
def multiply(
    run: Run,
    row: int,
    matrix: int,
    columns: tuple[int, int],
    inputs: int,
    x: tuple[Address, int],
    y: tuple[Address, int],
    rows: int,
) -> None:
    """Add W x to y, for some of the outputs.

    Args:
        run: Its weights and its matrix product are used.
        row: Of the offsets: that of the block, or the head's.
        matrix: Column of the offsets.
        columns: First output, and how many.
        inputs: Width of `x`.
        x: Address of the first encoded row, and the bytes to the next one.
        y: Address of the first output of the first row, and the bytes to the next row.
        rows: How many.
    """
    weights = run.weights
    call_product(
        run.functions.product,
        weights.matrices.ctypes.data + weights.offsets[row, matrix],
        weights.scales.ctypes.data + 4 * weights.offsets[row, matrix + 1],
        columns[0],
        columns[1],
        inputs,
        x[0],
        x[1],
        y[0],
        y[1],
        rows,
    )


@called
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


@called
def gated_layer(run: Run, block: int, x: Address, z: Address) -> None:
    """Compute z = the gate's output, encoded; put x into its row of the block's queue.

    The current tap's product is added to the look-ahead, which already holds everything else.
    """
    share, sizes, functions, buffers = run.share, run.sizes, run.functions, run.buffers
    num_streams, width = len(buffers.codes), 2 * sizes.gated
    queue = buffers.queues.ctypes.data + buffers.queue_offsets[block]
    queue += (share.queue_row[block] * num_streams + share.first_stream) * sizes.residual_row_bytes
    sums = buffers.lookahead.ctypes.data + 4 * buffers.lookahead_offsets[block]
    sums += 4 * (share.lookahead_row[block] * num_streams + share.first_stream) * width
    scratch = buffers.scratch.ctypes.data + share.scratch_row * sizes.scratch_bytes
    for s in range(share.num_streams):
        target = queue + s * sizes.residual_row_bytes
        call_encode(functions.encode, target, x + s * sizes.activation_bytes, sizes.residual)
    columns, source, added = (0, width), (queue, sizes.residual_row_bytes), (sums, 4 * width)
    multiply(run, block, CURRENT_TAP, columns, sizes.residual, source, added, share.num_streams)
    for s in range(share.num_streams):
        target = z + s * sizes.activation_bytes
        gate(scratch if sizes.is_encoded else target, sums + 4 * s * width, sizes.gated)
        if sizes.is_encoded:
            call_encode(functions.encode, target, scratch, sizes.gated)


@called
def residual_layer(run: Run, block: int, z: Address, x: Address) -> None:
    """Compute x = x * residual_scale + W z + bias, whose scale is folded into weights and bias."""
    share, sizes, weights = run.share, run.sizes, run.weights
    bias = weights.vectors.ctypes.data + 4 * (weights.offsets[block, BIASES] + 2 * sizes.gated)
    for s in range(share.num_streams):
        target = x + s * sizes.activation_bytes
        scale_add(target, weights.residual_scale, bias, sizes.residual)
    columns = 0, sizes.residual
    source, added = (z, sizes.activation_bytes), (x, sizes.activation_bytes)
    multiply(run, block, RESIDUAL, columns, sizes.gated, source, added, share.num_streams)


@called
def skip_layer(run: Run, block: int, z: Address, skip: Address) -> None:
    """Add a block's skip product, in this thread's columns."""
    share, sizes = run.share, run.sizes
    shared, rank = share.turn[0], share.rank
    first, last = share.columns[shared, 0, rank], share.columns[shared, 0, rank + 1]
    columns, source = (first, last - first), (z, sizes.activation_bytes)
    added = skip + 4 * first, sizes.activation_bytes
    multiply(run, block, SKIP, columns, sizes.gated, source, added, share.num_streams)


@called
def head_layer(run: Run, layer: int, x: Address, y: Address) -> None:
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
    encoded = scratch + 4 * int_max(sizes.skip, sizes.head)
    for s in range(share.num_streams):
        rectified = scratch + s * sizes.scratch_bytes
        relu(rectified, x + s * sizes.activation_bytes, inputs)
        call_encode(run.functions.encode, encoded + s * sizes.scratch_bytes, rectified, inputs)
        copy(y + s * sizes.activation_bytes + 4 * first, bias + 4 * first, 4 * (last - first))
    columns, source = (first, last - first), (encoded, sizes.scratch_bytes)
    added = y + 4 * first, sizes.activation_bytes
    multiply(run, head, column, columns, inputs, source, added, share.num_streams)
