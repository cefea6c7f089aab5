"""The loop over samples, compiled for one precision of the weights.

A sample passes the blocks one after the other, so what stands in its way is kept short. Of a
dilated convolution, the products with past inputs do not wait for the sample: they are computed as
many samples ahead as the dilation allows, several rows at once. What is left in sequence are the
current tap, the gate and the residual product.

The streams of a batch go through together, so that weights are loaded once for all. A stream by
itself may have a team of threads: the first leads through the blocks, the others follow behind with
the skip products and with what is computed ahead; all share the head. Whoever computes a number
adds its terms in the same order: batch, team and chunks change no bit.

What conditions samples is known ahead too: its products are computed for many samples at once, and
are what the sums of the gates start from.

WaveNet, sections 2.1 to 2.5; the queues are Fast WaveNet's (arXiv:1611.09482).
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.kernels.compiler import Address, compiled, inlined
from wavenet.kernels.elementwise import add, copy, encode_of, gate, relu, scale_add
from wavenet.kernels.matmul import INPUT_BYTES, WEIGHT_BYTES, product_of
from wavenet.sampling.cpu.draw_categorical import draw, guide
from wavenet.sampling.cpu.draw_mixture import draw_from_mixture
from wavenet.sampling.cpu.thread_sync import LINE, tell_progress, wait_for, wait_for_all

NOTHING = -1  # class of the samples before the first

# Columns of `Weights.places`: a matrix's first byte, and its first scale one column on.
CURRENT, PAST, RESIDUAL, SKIP, CONDITION = 0, 2, 4, 6, 8  # of a block
HIDDEN, OUTPUT = 0, 2  # of the head
BIASES = 10  # of a block: gate, residual; of the head: skip, hidden, output
NUM_PLACES = 11

MOST_BASES = 32  # samples whose conditions are multiplied at once, at most


class Sizes(NamedTuple):
    """What fixes the shape of all arrays; widths are padded to multiples of 16."""

    blocks: int
    residual: int
    gate: int  # one half
    skip: int
    head: int
    params: int
    classes: int  # of the params, those that are no padding
    taps: int  # of a dilated convolution
    input_taps: int
    residual_bytes: int  # of an encoded row
    gate_bytes: int
    condition: int  # numbers that condition a sample; 0 for none
    condition_bytes: int
    components: int  # of a mixture; 0 for classes
    gaussian: bool  # a mixture's densities: Gaussian or logistic
    work_bytes: int  # a stream's
    room_bytes: int


class Weights(NamedTuple):
    """The model."""

    matrices: NDArray[Any]
    scales: NDArray[np.float32]
    plain: NDArray[np.float32]  # biases; tables of the first convolution, (taps, levels, residual)
    places: NDArray[np.int64]  # (blocks + 1, NUM_PLACES): where all that begins, the head's last
    dilations: NDArray[np.int64]
    residual_scale: np.float32
    min_log_scale: float  # of a mixture's densities
    tables: int  # start of the tables in `plain`
    levels: int  # rows of a table


class Memory(NamedTuple):
    """What the streams of a batch remember, and room to work in; arrays are flat."""

    queues: NDArray[np.uint8]  # of each block (queue_rows, streams, encoded row): rings
    queue_places: NDArray[np.int64]  # of each block: its first byte
    queue_rows: NDArray[np.int64]  # of each block: samples that it remembers, at least one
    ahead: NDArray[np.float32]  # of each block (ahead_rows, streams, 2 * gate)
    ahead_places: NDArray[np.int64]
    ahead_rows: NDArray[np.int64]
    constants: NDArray[np.float32]  # (blocks, streams, 2 * gate): bias, and what conditions all
    bases: NDArray[np.float32]  # of each block (base_rows, streams, 2 * gate): with conditions
    base_places: NDArray[np.int64]
    base_rows: NDArray[np.int64]  # a multiple of ahead_rows
    codes: NDArray[np.int32]  # (streams, input_taps): the last classes, the newest first
    work: NDArray[np.uint8]  # (streams, work_bytes)
    room: NDArray[np.uint8]  # (streams or threads, room_bytes)


class Part(NamedTuple):
    """What one thread does."""

    rank: int  # in its team; 0 leads
    team: int  # threads on these streams
    first: int  # stream
    streams: int
    room: int  # first row of `Memory.room` that is its own
    cuts: NDArray[np.int64]  # (3, team + 1): its columns of skip, hidden and output begin at [rank]
    progress: NDArray[np.int64]  # of each thread, LINE apart


class Task(NamedTuple):
    """What all threads do."""

    length: int
    position: int  # samples that came before
    fresh: bool  # nothing has been computed ahead
    heads: bool  # whether the head is wanted: not while a prompt is read
    noise: NDArray[np.float32]  # (items, length, uniforms of a draw)
    conditions: NDArray[np.uint8]  # (streams, length + MOST_BASES, encoded row); or (streams, 0, 1)
    forced: NDArray[np.int32]  # (streams, length) classes in place of drawn ones; or (streams, 0)
    params: NDArray[np.float32]  # (streams, length, classes) to be filled; or (streams, 0, classes)
    chosen: NDArray[np.int32]  # (streams, length) to be filled
    temperature: float
    top_k: int  # 0 for all
    top_p: float  # 1 for all
    copies: int  # streams of an item: its own, and where draws are guided the unknown's
    guidance_scale: float


@lru_cache
def kernel_of(weight_dtype: str) -> Any:  # noqa: C901 a factory: its parts are below
    """Return `run(part, task, sizes, weights, memory)`, compiled for one precision."""
    product, encode = product_of(weight_dtype), encode_of(weight_dtype)
    weight_bytes, input_bytes = WEIGHT_BYTES[weight_dtype], INPUT_BYTES[weight_dtype]
    encodes = weight_dtype != "float32"

    @inlined
    def multiply(
        weights: Weights,
        place: tuple[int, int],
        inputs: int,
        left: int,
        right: int,
        x: Address,
        x_stride: int,
        y: Address,
        y_stride: int,
        rows: int,
    ) -> None:
        """Make y[left:right] += W[left:right] x for rows whose scale lies behind them."""
        product(
            weights.matrices.ctypes.data + place[0] + left * inputs * weight_bytes,
            weights.scales.ctypes.data + 4 * (place[1] + left),
            inputs,
            right - left,
            x,
            x_stride,
            x + inputs * input_bytes,
            y + 4 * left,
            y_stride,
            rows,
        )

    @inlined
    def condition(
        part: Part,
        task: Task,
        sizes: Sizes,
        weights: Weights,
        memory: Memory,
        block: int,
        position: int,
        row: int,
    ) -> None:
        """Compute what the sums of samples to come start from, up to the last row.

        Args:
            part: Whose streams.
            task: Its conditions.
            sizes: Of the model.
            weights: The model.
            memory: Of the streams.
            block: Number of the block.
            position: The first of these samples.
            row: Its row in `Memory.bases`.
        """
        all_streams, width = len(memory.codes), 2 * sizes.gate
        rows = memory.base_rows[block] - row
        constants = memory.constants.ctypes.data
        constants += 4 * (block * all_streams + part.first) * width
        bases = memory.bases.ctypes.data + 4 * memory.base_places[block]
        bases += 4 * (row * all_streams + part.first) * width
        first = position - task.position
        place = (weights.places[block, CONDITION], weights.places[block, CONDITION + 1])
        for s in range(part.streams):
            for index in range(rows):
                copy(
                    bases + 4 * (index * all_streams + s) * width,
                    constants + 4 * s * width,
                    4 * width,
                )
            source = task.conditions.ctypes.data
            source += ((part.first + s) * task.conditions.shape[1] + first) * sizes.condition_bytes
            multiply(
                weights,
                place,
                sizes.condition,
                0,
                width,
                source,
                sizes.condition_bytes,
                bases + 4 * s * width,
                4 * all_streams * width,
                rows,
            )

    @inlined
    def look_ahead(
        part: Part,
        task: Task,
        sizes: Sizes,
        weights: Weights,
        memory: Memory,
        block: int,
        position: int,
        row: int,
        rows: int,
    ) -> None:
        """Compute what samples to come owe to past inputs and to their conditions.

        Args:
            part: Whose streams.
            task: Its conditions.
            sizes: Of the model.
            weights: The model.
            memory: Of the streams.
            block: Number of the block.
            position: The first of these samples.
            row: The look-ahead's row of it.
            rows: Samples, not more than the dilation.
        """
        all_streams, ring = len(memory.codes), memory.queue_rows[block]
        size, width = sizes.residual_bytes, 2 * sizes.gate
        ahead = memory.ahead.ctypes.data + 4 * memory.ahead_places[block]
        ahead += 4 * (row * all_streams + part.first) * width
        queue = memory.queues.ctypes.data + memory.queue_places[block] + part.first * size
        base = memory.constants.ctypes.data
        base += 4 * (block * all_streams + part.first) * width
        stride = 0  # from one sample's base to the next one's
        if sizes.condition > 0:
            base_row = (position + block) % memory.base_rows[block]
            if base_row == 0 or position == task.position:
                condition(part, task, sizes, weights, memory, block, position, base_row)
            base = memory.bases.ctypes.data + 4 * memory.base_places[block]
            base += 4 * (base_row * all_streams + part.first) * width
            stride = 4 * all_streams * width
        for index in range(rows):
            for s in range(part.streams):
                target = ahead + 4 * (index * all_streams + s) * width
                copy(target, base + index * stride + 4 * s * width, 4 * width)
        matrix, scale = weights.places[block, PAST], weights.places[block, PAST + 1]
        # as many rows at a time as there are: samples of a stream, or streams at a sample
        by_stream = part.streams < rows
        for tap in range(sizes.taps - 1):
            place = (matrix + tap * width * sizes.residual * weight_bytes, scale + tap * width)
            at = (position + tap * weights.dilations[block]) % ring  # of the first sample's tap
            done = 0
            while done < rows:
                now = min(rows - done, ring - at)
                for index in range(part.streams if by_stream else now):
                    step, other = (1, all_streams) if by_stream else (all_streams, 1)
                    multiply(
                        weights,
                        place,
                        sizes.residual,
                        0,
                        width,
                        queue + (at * all_streams + index * step) * size,
                        other * size,
                        ahead + 4 * (done * all_streams + index * step) * width,
                        4 * other * width,
                        now if by_stream else part.streams,
                    )
                done, at = done + now, 0

    @inlined
    def first_convolution(
        part: Part, sizes: Sizes, weights: Weights, memory: Memory, x: Address
    ) -> None:
        """Make x = the sum of a row of a table for each tap."""
        tables = weights.plain.ctypes.data + 4 * weights.tables
        for s in range(part.streams):
            target = x + s * sizes.work_bytes
            for tap in range(sizes.input_taps):
                code = memory.codes[part.first + s, tap]
                row = (sizes.input_taps - 1 - tap) * weights.levels + code
                if tap == 0:
                    copy(target, tables + 4 * row * sizes.residual, 4 * sizes.residual)
                elif code != NOTHING:
                    add(target, tables + 4 * row * sizes.residual, sizes.residual)

    @inlined
    def gated(
        part: Part,
        sizes: Sizes,
        weights: Weights,
        memory: Memory,
        block: int,
        at: int,
        row: int,
        x: Address,
        room: Address,
        z: Address,
    ) -> None:
        """Make z = the gate's output, encoded; x goes into row `at` of its queue."""
        all_streams, width = len(memory.codes), 2 * sizes.gate
        queue = memory.queues.ctypes.data + memory.queue_places[block]
        queue += (at * all_streams + part.first) * sizes.residual_bytes
        ahead = memory.ahead.ctypes.data + 4 * memory.ahead_places[block]
        ahead += 4 * (row * all_streams + part.first) * width
        for s in range(part.streams):
            encode(queue + s * sizes.residual_bytes, x + s * sizes.work_bytes, sizes.residual)
        multiply(
            weights,
            (weights.places[block, CURRENT], weights.places[block, CURRENT + 1]),
            sizes.residual,
            0,
            width,
            queue,
            sizes.residual_bytes,
            ahead,
            4 * width,
            part.streams,
        )
        for s in range(part.streams):
            target = z + s * sizes.work_bytes
            gate(room if encodes else target, ahead + 4 * s * width, sizes.gate)
            if encodes:
                encode(target, room, sizes.gate)

    @inlined
    def residual(
        part: Part, sizes: Sizes, weights: Weights, block: int, z: Address, x: Address
    ) -> None:
        """Make x = x * residual_scale + residual product of z, the scale folded into it."""
        bias = weights.plain.ctypes.data + 4 * (weights.places[block, BIASES] + 2 * sizes.gate)
        for s in range(part.streams):
            scale_add(x + s * sizes.work_bytes, weights.residual_scale, bias, sizes.residual)
        multiply(
            weights,
            (weights.places[block, RESIDUAL], weights.places[block, RESIDUAL + 1]),
            sizes.gate,
            0,
            sizes.residual,
            z,
            sizes.work_bytes,
            x,
            sizes.work_bytes,
            part.streams,
        )

    @inlined
    def follow(
        part: Part, sizes: Sizes, weights: Weights, block: int, z: Address, skip: Address
    ) -> None:
        """Add a block's skip product, in this thread's columns."""
        multiply(
            weights,
            (weights.places[block, SKIP], weights.places[block, SKIP + 1]),
            sizes.gate,
            part.cuts[0, part.rank],
            part.cuts[0, part.rank + 1],
            z,
            sizes.work_bytes,
            skip,
            sizes.work_bytes,
            part.streams,
        )

    @inlined
    def head(
        part: Part,
        sizes: Sizes,
        weights: Weights,
        layer: int,
        x: Address,
        room: Address,
        y: Address,
    ) -> None:
        """Make y = a product of the head with ReLU(x), in this thread's columns; layer 0 or 1."""
        inputs, matrix = (sizes.skip, HIDDEN) if layer == 0 else (sizes.head, OUTPUT)
        place = weights.places[sizes.blocks]
        bias = weights.plain.ctypes.data + 4 * (place[BIASES] + sizes.skip + layer * sizes.head)
        left, right = part.cuts[1 + layer, part.rank], part.cuts[1 + layer, part.rank + 1]
        rows = room + 4 * max(sizes.skip, sizes.head)
        for s in range(part.streams):
            here = room + s * sizes.room_bytes
            target = y + s * sizes.work_bytes
            relu(here, x + s * sizes.work_bytes, inputs)
            encode(rows + s * sizes.room_bytes, here, inputs)
            copy(target + 4 * left, bias + 4 * left, 4 * (right - left))
        multiply(
            weights,
            (place[matrix], place[matrix + 1]),
            inputs,
            left,
            right,
            rows,
            sizes.room_bytes,
            y,
            sizes.work_bytes,
            part.streams,
        )

    @inlined
    def choose(
        part: Part,
        task: Task,
        sizes: Sizes,
        weights: Weights,
        memory: Memory,
        t: int,
        params: Address,
    ) -> None:
        """Draw each stream's code, or take the one that is forced on it."""
        for s in range(part.streams):
            stream, here = part.first + s, params + s * sizes.work_bytes
            if task.params.shape[1] > 0:
                target = task.params.ctypes.data
                target += 4 * (stream * task.length + t) * sizes.classes
                copy(target, here, 4 * sizes.classes)
            item, other = stream // task.copies, stream % task.copies
            if task.forced.shape[1] > 0:
                code = np.int64(task.forced[stream, t])
            elif other > 0:
                code = np.int64(task.chosen[stream - 1, t])
            else:
                if task.copies > 1:
                    guide(
                        here, here + sizes.work_bytes, sizes.params, np.float32(task.guidance_scale)
                    )
                if sizes.components > 0:
                    code = draw_from_mixture(
                        here,
                        sizes.components,
                        sizes.gaussian,
                        weights.min_log_scale,
                        task.noise[item, t, 0],
                        task.noise[item, t, task.noise.shape[2] - 1],
                        task.temperature,
                    )
                else:
                    room = here + 4 * sizes.params
                    code = draw(
                        here,
                        room,
                        room + 4 * sizes.params,
                        sizes.params,
                        task.noise[item, t, 0],
                        task.temperature,
                        task.top_k,
                        task.top_p,
                    )
            task.chosen[stream, t] = code
            for tap in range(sizes.input_taps - 1, 0, -1):
                memory.codes[stream, tap] = memory.codes[stream, tap - 1]
            memory.codes[stream, 0] = code if code > 0 else 0

    def run(  # noqa: C901 one loop, its steps above
        part: Part, task: Task, sizes: Sizes, weights: Weights, memory: Memory
    ) -> None:
        """Generate `task.length` samples of this thread's streams."""
        blocks, team, leads = sizes.blocks, part.team, part.rank == 0
        x = memory.work.ctypes.data + part.first * sizes.work_bytes
        skip = x + 4 * sizes.residual
        hidden = skip + 4 * sizes.skip
        params = hidden + 4 * sizes.head
        z_rows = params + 3 * 4 * sizes.params
        room = memory.room.ctypes.data + part.room * sizes.room_bytes
        flags = part.progress.ctypes.data
        flag = flags + 8 * LINE * part.rank
        position = task.position
        # rows of rings and look-aheads, counted on: a remainder a block and sample is slow
        ring_at = position % memory.queue_rows
        ahead_at = (position + np.arange(blocks)) % memory.ahead_rows
        if leads and task.fresh:
            for block in range(blocks):
                row = ahead_at[block]
                rows = memory.ahead_rows[block] - row
                look_ahead(part, task, sizes, weights, memory, block, position, row, rows)
        for t in range(task.length):
            progress = t * (blocks + 3)  # made before this sample: one a block, three for the head
            if leads:
                first_convolution(part, sizes, weights, memory, x)
                bias = weights.plain.ctypes.data + 4 * weights.places[blocks, BIASES]
                for s in range(part.streams):
                    copy(skip + s * sizes.work_bytes, bias, 4 * sizes.skip)
            for block in range(blocks):
                rows = memory.ahead_rows[block]
                row = ahead_at[block]
                z = z_rows + block * sizes.gate_bytes
                if leads:
                    gated(part, sizes, weights, memory, block, ring_at[block], row, x, room, z)
                    if team > 1:
                        tell_progress(flag, progress + block + 1)
                    elif block > 0 and task.heads:  # the block before: it hides the gate's latency
                        follow(part, sizes, weights, block - 1, z - sizes.gate_bytes, skip)
                    if block < blocks - 1:
                        residual(part, sizes, weights, block, z, x)
                else:
                    wait_for(flags, progress + block + 1)
                    if task.heads:
                        follow(part, sizes, weights, block, z, skip)
                if row == rows - 1 and (team == 1 or block % (team - 1) == part.rank - 1):
                    look_ahead(part, task, sizes, weights, memory, block, position + 1, 0, rows)
                ring_at[block] += 1
                if ring_at[block] == memory.queue_rows[block]:
                    ring_at[block] = 0
                ahead_at[block] = 0 if row == rows - 1 else row + 1
            if leads and task.heads:
                for block in range(blocks - 1 if team == 1 else 0, blocks):
                    follow(part, sizes, weights, block, z_rows + block * sizes.gate_bytes, skip)
            position += 1
            for layer in range(2):
                if team > 1:
                    tell_progress(flag, progress + blocks + 1 + layer)
                    wait_for_all(flags, team, progress + blocks + 1 + layer)
                if task.heads:
                    source, target = (skip, hidden) if layer == 0 else (hidden, params)
                    head(part, sizes, weights, layer, source, room, target)
            if team > 1:
                tell_progress(flag, progress + blocks + 3)
            if leads:
                if team > 1:
                    wait_for_all(flags, team, progress + blocks + 3)
                choose(part, task, sizes, weights, memory, t, params)

    return compiled(run, weight_dtype)
