"""State of a batch in the kernel's arrays, and its conversion from and to `WaveNetState`.

Both conversions are exact: values that a queue stores in less than 32 bits become the floats they
represent, which are encoded to the same bits again. So a state can be saved, loaded and continued
by another backend.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.kernels.matmul import aligned, decode_rows, encode_rows
from wavenet.kernels.past_coefficients import PastSolver
from wavenet.kernels.sampler.arrays import (
    MAX_CONDITIONED_ROWS,
    MAX_LOOKAHEAD_ROWS,
    Sizes,
    StreamBuffers,
)
from wavenet.kernels.sampler.sharing import new_pace
from wavenet.kernels.vectors import LANES
from wavenet.model import WaveNet, WaveNetState
from wavenet.sampling.cpu.packing import gate_biases
from wavenet.utils.shared_constants import COEFFICIENT_STEP, LEVELS, SILENCE_CODE

Array = NDArray[np.float32]
SILENT_SAMPLE = LEVELS // 2  # the 16-bit code of 0


@dataclass(frozen=True)
class Layout:
    """Layout of a model's states."""

    model: WaveNet
    sizes: Sizes
    weight_dtype: str  # which also fixes the encoding of activations
    num_threads: int  # that may share one stream

    def new_buffers(self, streams: int, biases: Array) -> StreamBuffers:
        """Return the buffers of streams before their first sample; `biases` as `gate_biases`."""
        sizes = self.sizes
        dilations = np.array(self.model.config.dilations, np.int64)
        queue_rows = np.maximum((sizes.kernel_size - 1) * dilations, 1)
        queues = streams * queue_rows * sizes.residual_row_bytes
        lookahead_rows = np.minimum(dilations, MAX_LOOKAHEAD_ROWS)
        lookahead = streams * lookahead_rows * 2 * sizes.gated
        conditioned_rows = np.zeros_like(lookahead_rows)
        if sizes.conditioning:
            conditioned_rows = MAX_CONDITIONED_ROWS // lookahead_rows * lookahead_rows
        conditioned = streams * conditioned_rows * 2 * sizes.gated
        shape = (streams, sizes.num_signals, sizes.input_kernel_size)
        codes = np.full(shape, SILENCE_CODE, np.int32)
        codes[:, :, 0] = self.model.distribution.encode(torch.zeros(1)).item()
        scratch = max(streams, 2 * self.num_threads) * sizes.scratch_bytes
        return StreamBuffers(
            queues=aligned(np.zeros(int(queues.sum()), np.uint8)),
            queue_offsets=np.cumsum(queues) - queues,
            queue_rows=queue_rows,
            lookahead=aligned(np.zeros(int(lookahead.sum()), np.float32)),
            lookahead_offsets=np.cumsum(lookahead) - lookahead,
            lookahead_rows=lookahead_rows,
            biases=aligned(biases),
            conditioned=aligned(np.zeros(int(conditioned.sum()), np.float32)),
            conditioned_offsets=np.cumsum(conditioned) - conditioned,
            conditioned_rows=conditioned_rows,
            codes=codes,
            history=np.zeros((streams, 2 * sizes.memory), np.int32),
            coefficients=np.zeros((streams, sizes.order), np.int32),
            solver=self._new_solver(streams if sizes.interval else 0),
            prediction=np.array([[0, 1]] * streams, np.float32).reshape(streams, 2),
            activations=aligned(np.zeros(streams * sizes.activation_bytes, np.uint8)),
            scratch=aligned(np.zeros(scratch, np.uint8)),
        )

    def _new_solver(self, streams: int) -> PastSolver:
        sizes, order = self.sizes, 0 if self.model.predictor is None else self.model.predictor.order
        return PastSolver(
            windowed=np.zeros((streams, sizes.memory + sizes.order), np.int32),
            r=np.zeros((streams, order + 1, LANES)),
            a=np.zeros((streams, order, LANES)),
            error=np.zeros((streams, LANES)),
            rows=np.zeros((streams, order + 1), np.float32),
        )

    def new_state(
        self, streams: int, global_conditioning: torch.Tensor | None = None
    ) -> "PackedState":
        """Return the state before the first sample, given each stream's global conditioning."""
        biases = gate_biases(self.model, self.sizes, global_conditioning, streams)
        return PackedState(self, self.new_buffers(streams, biases))

    def pack(
        self, state: WaveNetState, global_conditioning: torch.Tensor | None = None
    ) -> "PackedState":
        """Return a state of this model in the kernel's layout."""
        packed = self.new_state(state.queues[0].shape[0], global_conditioning)
        packed.position = state.position
        distribution = self.model.distribution
        for block, queue in enumerate(state.queues[1 : 1 + self.sizes.num_blocks]):
            values = queue.detach().to("cpu", torch.float32).transpose(1, 2).numpy()
            padded = np.zeros((*values.shape[:2], self.sizes.residual), np.float32)
            padded[..., : values.shape[2]] = values
            packed.rows(block)[:, : queue.shape[2]] = encode_rows(padded, self.weight_dtype)
        memory = self.sizes.input_kernel_size - 1
        seen = state.queues[0][..., _ring_places(state.position, memory)].cpu()
        codes = (distribution.encode(seen) if seen.is_floating_point() else seen).flip(-1)
        codes[..., state.position :] = SILENCE_CODE
        shape = (len(codes), self.sizes.num_signals, memory)
        packed.buffers.codes[..., 1:] = codes.reshape(shape).numpy()
        if self.model.predictor is not None:
            memory, queue = self.model.predictor.memory, state.queues[-1].cpu()
            oldest_first = queue[:, _ring_places(state.position, memory)]
            packed.set_history(distribution.encode(oldest_first).numpy())
            kept = (queue[:, memory:-2] / COEFFICIENT_STEP).to(torch.int32).numpy()
            packed.buffers.coefficients[:, self.sizes.order - kept.shape[1] :] = kept
            packed.buffers.prediction[:] = queue[:, -2:].numpy()
        return packed


class PackedState:
    """A `WaveNetState` in the kernel's layout.

    Args:
        layout: Layout of the buffers.
        buffers: State of the streams.

    Attributes:
        pace: Of each group of threads, what a sample takes; of prompts, and of generated samples.
        position: Samples seen so far.
        refill_lookahead: Whether the look-ahead has not been computed yet.
    """

    def __init__(self, layout: Layout, buffers: StreamBuffers) -> None:
        self.layout = layout
        self.buffers = buffers
        self.pace = new_pace(layout.num_threads)
        self.position = 0
        self.refill_lookahead = True

    @property
    def batch_size(self) -> int:
        """Return the number of streams."""
        return len(self.buffers.codes)

    @property
    def nbytes(self) -> int:
        """Return the memory of the buffers."""
        arrays = [*self.buffers, *self.buffers.solver]
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    def rows(self, block: int) -> NDArray[np.uint8]:
        """Return a writable view of a block's queue, `(streams, samples, bytes of a row)`."""
        ring, size = int(self.buffers.queue_rows[block]), self.layout.sizes.residual_row_bytes
        start = self.buffers.queue_offsets[block]
        queue = self.buffers.queues[start : start + ring * self.batch_size * size]
        return queue.reshape(ring, self.batch_size, size).transpose(1, 0, 2)

    def set_history(self, codes: NDArray[Any]) -> None:
        """Set the last samples that the predictor has seen, `(streams, T)`, oldest first."""
        memory = self.layout.sizes.memory
        recent = codes[:, -memory:] - SILENT_SAMPLE
        places = np.arange(self.position - recent.shape[1], self.position) % memory
        history = self.buffers.history.reshape(self.batch_size, 2, memory)
        history[:] = 0
        history[:, :, places] = recent[:, np.newaxis]

    def clone(self) -> "PackedState":
        """Return an independent copy."""
        return self.select(range(self.batch_size))

    def select(self, items: Sequence[int]) -> "PackedState":
        """Return an independent copy of some streams."""
        chosen = list(items)
        num_blocks, width = self.layout.sizes.num_blocks, 2 * self.layout.sizes.gated
        biases = self.buffers.biases.reshape(num_blocks, self.batch_size, width)[:, chosen]
        other = PackedState(self.layout, self.layout.new_buffers(len(chosen), biases))
        other.position = self.position
        other.pace[:] = self.pace
        for block in range(num_blocks):
            other.rows(block)[:] = self.rows(block)[chosen]
        for name in ("codes", "history", "coefficients", "prediction"):
            getattr(other.buffers, name)[:] = getattr(self.buffers, name)[chosen]
        return other

    def to_wavenet_state(self) -> WaveNetState:
        """Return the state in the layout of `WaveNet.step`."""
        layout, state = self.layout, self.layout.model.new_state(self.batch_size)
        state.position = self.position
        for block, queue in enumerate(state.queues[1 : 1 + layout.sizes.num_blocks]):
            rows = self.rows(block)[:, : queue.shape[2]]
            values = decode_rows(rows, layout.sizes.residual, layout.weight_dtype)
            queue[:] = torch.from_numpy(values[..., : queue.shape[1]]).transpose(1, 2)
        codes = torch.from_numpy(self.buffers.codes[..., 1:].astype(np.int64)).flip(-1)
        first, places = state.queues[0], _ring_places(self.position, codes.shape[-1])
        if first.is_floating_point():
            known = layout.model.distribution.decode(codes.clamp(min=0), first.dtype)
            first[..., places] = known * (codes != SILENCE_CODE)
        else:
            first[..., places] = codes.squeeze(1) if first.dim() == 2 else codes
        predictor = layout.model.predictor
        if predictor is not None:
            queue, place = state.queues[-1], self.position % layout.sizes.memory
            places = _ring_places(self.position, predictor.memory)
            samples = self.buffers.history[:, np.arange(-len(places), 0) + place]
            queue[:, places] = torch.from_numpy(samples).to(queue) / SILENT_SAMPLE
            kept = self.buffers.coefficients[:, layout.sizes.order - predictor.kept :]
            queue[:, predictor.memory : -2] = torch.from_numpy(kept) * COEFFICIENT_STEP
            queue[:, -2:] = torch.from_numpy(self.buffers.prediction)
        return state


def _ring_places(position: int, memory: int) -> torch.Tensor:
    """Return the places of the last `memory` samples in a ring buffer, oldest first."""
    return torch.arange(position - memory, position) % max(memory, 1)
