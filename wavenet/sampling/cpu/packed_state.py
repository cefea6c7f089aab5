"""Where a batch stands, in the kernel's memory, and the way to `WaveNetState` and back.

Both ways are exact: what a queue holds in less than 32 bits comes back as the floats that stand for
it, and those give the same bits again. So a state can be saved, loaded and handed to another
backend.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.kernels.alignment import aligned
from wavenet.kernels.matmul import decode_rows, encode_rows
from wavenet.model import WaveNet, WaveNetState
from wavenet.sampling.cpu.kernel import MOST_BASES, NOTHING, Memory, Sizes
from wavenet.sampling.cpu.packing import constants_of

Array = NDArray[np.float32]
MOST_AHEAD = 24  # rows of a look-ahead: enough for weights to be loaded seldom


@dataclass(frozen=True)
class Layout:
    """How a model's states lie in memory.

    Attributes:
        model: The model; its queues' shapes and its distribution.
        sizes: Of the kernel's arrays.
        weight_dtype: Of the encoded rows.
        num_threads: That may share one stream.
    """

    model: WaveNet
    sizes: Sizes
    weight_dtype: str
    num_threads: int

    def new_memory(self, streams: int, constants: Array) -> Memory:
        """Return the memory of streams before their first sample: silence.

        Args:
            streams: How many.
            constants: What each block's sums start from, `(blocks, streams, 2 * gate)`.
        """
        sizes = self.sizes
        dilations = np.array(self.model.config.dilations, np.int64)
        rings = np.maximum((sizes.taps - 1) * dilations, 1)
        queues = streams * rings * sizes.residual_bytes
        rows = np.minimum(dilations, MOST_AHEAD)
        ahead = streams * rows * 2 * sizes.gate
        base_rows = MOST_BASES // rows * rows if sizes.condition else np.zeros_like(rows)
        bases = streams * base_rows * 2 * sizes.gate
        codes = np.full((streams, sizes.input_taps), NOTHING, np.int32)
        codes[:, 0] = self.model.distribution.encode(torch.zeros(1)).item()
        return Memory(
            queues=aligned(np.zeros(int(queues.sum()), np.uint8)),
            queue_places=np.cumsum(queues) - queues,
            queue_rows=rings,
            ahead=aligned(np.zeros(int(ahead.sum()), np.float32)),
            ahead_places=np.cumsum(ahead) - ahead,
            ahead_rows=rows,
            constants=aligned(constants),
            bases=aligned(np.zeros(int(bases.sum()), np.float32)),
            base_places=np.cumsum(bases) - bases,
            base_rows=base_rows,
            codes=codes,
            work=aligned(np.zeros(streams * sizes.work_bytes, np.uint8)),
            room=aligned(np.zeros(max(streams, 2 * self.num_threads) * sizes.room_bytes, np.uint8)),
        )

    def new_state(self, streams: int, whole: torch.Tensor | None = None) -> "PackedState":
        """Return the state before the first sample, `whole` conditioning each stream's signal."""
        constants = constants_of(self.model, self.sizes, whole, streams)
        return PackedState(self, self.new_memory(streams, constants))

    def packed(self, state: WaveNetState, whole: torch.Tensor | None = None) -> "PackedState":
        """Return a plain state, which is this model's, in the kernel's memory."""
        packed = self.new_state(state.queues[0].shape[0], whole)
        packed.position = state.position
        distribution = self.model.distribution
        for block, queue in enumerate(state.queues[1:]):
            values = queue.detach().to("cpu", torch.float32).transpose(1, 2).numpy()
            packed.rows(block)[:, : queue.shape[2]] = self._encoded(values)
        memory = self.sizes.input_taps - 1
        seen = state.queues[0][..., _ring(state.position, memory)].cpu()
        codes = (distribution.encode(seen[:, 0]) if seen.dim() == 3 else seen).flip(-1)
        codes[:, state.position :] = NOTHING
        packed.memory.codes[:, 1:] = codes.numpy()
        return packed

    def plain(self, packed: "PackedState") -> WaveNetState:
        """Return a packed state as the model's own."""
        state = self.model.new_state(packed.batch_size)
        state.position = packed.position
        for block, queue in enumerate(state.queues[1:]):
            rows = packed.rows(block)[:, : queue.shape[2]]
            values = decode_rows(rows, self.sizes.residual, self.weight_dtype)[
                ..., : queue.shape[1]
            ]
            queue[:] = torch.from_numpy(values).transpose(1, 2)
        first = state.queues[0]
        codes = torch.from_numpy(packed.memory.codes[:, 1:].astype(np.int64)).flip(-1)
        if first.dim() == 3:
            known = self.model.distribution.decode(codes.clamp(min=0), first.dtype)
            first[:, 0, _ring(packed.position, codes.shape[1])] = known * (codes != NOTHING)
        else:
            first[:, _ring(packed.position, codes.shape[1])] = codes
        return state

    def _encoded(self, values: Array) -> NDArray[np.uint8]:
        padding = np.zeros((*values.shape[:2], self.sizes.residual), np.float32)
        padding[..., : values.shape[2]] = values
        return encode_rows(padding, self.weight_dtype)


class PackedState:
    """Where a batch stands, as `WaveNetState`, in the kernel's memory.

    Args:
        layout: Of the memory.
        memory: Of the streams.

    Attributes:
        position: Samples seen so far.
        fresh: Whether nothing has been computed ahead.
    """

    def __init__(self, layout: Layout, memory: Memory) -> None:
        self.layout = layout
        self.memory = memory
        self.position = 0
        self.fresh = True

    @property
    def batch_size(self) -> int:
        """Streams."""
        return len(self.memory.codes)

    def rows(self, block: int) -> NDArray[np.uint8]:
        """Return a block's ring, `(streams, samples, bytes of a row)`, to read and write."""
        ring, size = int(self.memory.queue_rows[block]), self.layout.sizes.residual_bytes
        start = self.memory.queue_places[block]
        queue = self.memory.queues[start : start + ring * self.batch_size * size]
        return queue.reshape(ring, self.batch_size, size).transpose(1, 0, 2)

    def move_on(self, samples: int) -> None:
        """Count what the kernel generated."""
        if samples:
            self.position += samples
            self.fresh = False

    def clone(self) -> "PackedState":
        """Return a copy that goes on by itself."""
        return self.select(range(self.batch_size))

    def select(self, items: Sequence[int]) -> "PackedState":
        """Return a copy of some streams."""
        chosen = list(items)
        blocks, gate = self.layout.sizes.blocks, self.layout.sizes.gate
        constants = self.memory.constants.reshape(blocks, self.batch_size, 2 * gate)[:, chosen]
        other = PackedState(self.layout, self.layout.new_memory(len(chosen), constants))
        other.position = self.position
        for block in range(self.layout.sizes.blocks):
            other.rows(block)[:] = self.rows(block)[chosen]
        other.memory.codes[:] = self.memory.codes[chosen]
        return other

    def plain(self) -> WaveNetState:
        """Return the state as the model's own."""
        return self.layout.plain(self)


def _ring(position: int, memory: int) -> torch.Tensor:
    """Return where a ring buffer holds the last `memory` samples, the oldest first."""
    return torch.arange(position - memory, position) % max(memory, 1)
