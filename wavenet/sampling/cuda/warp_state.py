"""State of a batch in the order in which the threads of a warp read it.

Its conversion from and to `WaveNetState` is exact: what a queue stores in bfloat16 becomes the
floats that it represents.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.config import WaveNetConfig
from wavenet.distributions import Distribution
from wavenet.model import WaveNetState
from wavenet.sampling.cuda.packing import (
    from_slots,
    per_stream,
    per_thread,
    to_slots,
)
from wavenet.sampling.cuda.prediction import PredictorState
from wavenet.utils.shared_constants import SILENCE_CODE


class Layout:
    """Where the queues of a model lie: one after the other, a row per sample, as in `GraphState`.

    Args:
        config: The model's.
        distribution: Its distribution.
        dtype: Of the queues of the blocks: `float32` or `bfloat16`.
        device: Of the states.

    Attributes:
        memories: Rows of each block's queue.
        input_memory: Samples of the input layer's.
        num_signals: Rows of a sample in that queue.
        order: Of the linear predictor; 0 for none.
        silence: Code in that queue for what precedes the first sample.
    """

    def __init__(
        self,
        config: WaveNetConfig,
        distribution: Distribution,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.config, self.distribution = config, distribution
        self.dtype, self.device = dtype, device
        self.memories = [(config.kernel_size - 1) * dilation for dilation in config.dilations]
        self.input_memory = config.input_kernel_size - 1
        self.num_signals = 1 if config.predictor is None else 3
        self.order = 0 if config.predictor is None else config.predictor.order
        self.silence = config.quantization_channels

    def new_state(self, streams: int) -> "WarpState":
        """Return the state before the first sample."""
        shape = sum(self.memories), streams, self.config.residual_channels
        queues = torch.zeros(shape, dtype=self.dtype, device=self.device)
        rows = self.input_memory * self.num_signals
        history = torch.full((rows, streams), self.silence, device=self.device)
        predictor = None
        if self.order:
            nothing = torch.zeros(streams, 0, device=self.device)
            predictor = PredictorState.after(nothing, self.order)
        slots = to_slots(queues, self.dtype)
        return WarpState(self, slots, to_history(history), streams, 0, predictor)

    def blocks(self, position: int) -> Tensor:
        """Return each block's first row, rows, dilation and row of a sample, `struct Block`."""
        memories = torch.tensor(self.memories)
        first = memories.cumsum(0) - memories
        dilations = torch.tensor(self.config.dilations)
        row = position % memories.clamp(min=1)
        numbers = torch.stack([memories, dilations, row, torch.zeros_like(row)], dim=1).int()
        return torch.cat([first.unsqueeze(1), numbers.view(torch.int64)], dim=1).to(self.device)

    def pack(self, state: WaveNetState) -> "WarpState":
        """Return a state of this model in this layout."""
        first, *queues = [queue.to(self.device) for queue in state.queues]
        predictor = PredictorState.pack(queues.pop(), state.position) if self.order else None
        rows = torch.cat([queue.permute(2, 0, 1) for queue in queues]).float()
        inputs = (first.unsqueeze(1) if first.dim() == 2 else first).permute(2, 1, 0)
        if first.is_floating_point():
            before = torch.arange(1, self.input_memory + 1, device=self.device)
            known = torch.zeros_like(before, dtype=torch.bool)
            known[(state.position - before) % max(self.input_memory, 1)] = before <= state.position
            codes = self.distribution.encode(inputs)
            inputs = codes.where(known.view(-1, 1, 1), self.silence)
        else:
            inputs = inputs.where(inputs != SILENCE_CODE, self.silence)
        history = to_history(inputs.flatten(0, 1))
        slots = to_slots(rows, self.dtype)
        return WarpState(self, slots, history, rows.shape[1], state.position, predictor)


@dataclass
class WarpState:
    """A `WaveNetState` in the layout of the kernel.

    Attributes:
        layout: Where each queue lies.
        queues: Of all blocks, `(rows, warps, slots, ...)`.
        history: Codes of the input layer's queue, `(rows, warps, 8, 4, 2)`, the signals of a sample
            one after the other: a copy per thread.
        batch_size: Streams; the rest of the last warp is padding.
        position: Samples seen so far.
        predictor: State of the linear predictor, if there is one.
    """

    layout: Layout
    queues: Tensor
    history: Tensor
    batch_size: int
    position: int = 0
    predictor: PredictorState | None = None

    @property
    def nbytes(self) -> int:
        """Return the memory of the state."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Return what the kernel changes, by its names in `Task`."""
        tensors = {"queues": self.queues, "history": self.history}
        if self.predictor is not None:
            tensors |= vars(self.predictor)
        return tensors

    def clone(self) -> "WarpState":
        """Return an independent copy."""
        predictor = None if self.predictor is None else self.predictor.clone()
        return dataclasses.replace(
            self, queues=self.queues.clone(), history=self.history.clone(), predictor=predictor
        )

    def select(self, items: Sequence[int]) -> "WarpState":
        """Return an independent copy of some streams."""
        chosen, width = list(items), self.layout.config.residual_channels
        queues = from_slots(self.queues, self.batch_size, width)[:, chosen]
        history = per_stream(self.history, self.batch_size)[:, chosen]
        predictor = self._predictor_queue()
        return WarpState(
            self.layout,
            to_slots(queues, self.layout.dtype),
            per_thread(history),
            len(chosen),
            self.position,
            None if predictor is None else PredictorState.pack(predictor[chosen], self.position),
        )

    def to_wavenet_state(self) -> WaveNetState:
        """Return the state in the layout of `WaveNet.step`."""
        layout, config = self.layout, self.layout.config
        rows = from_slots(self.queues, self.batch_size, config.residual_channels)
        inputs = per_stream(self.history, self.batch_size).long()
        inputs = inputs.view(layout.input_memory, layout.num_signals, self.batch_size)
        inputs = inputs.permute(2, 1, 0)
        if config.input_type == "scalar":
            values = layout.distribution.decode(inputs.clamp(max=layout.silence - 1))
            inputs = values.where(inputs != layout.silence, 0.0)
        else:
            inputs = inputs.where(inputs != layout.silence, SILENCE_CODE)
            inputs = inputs.squeeze(1) if layout.num_signals == 1 else inputs
        predictor = self._predictor_queue()
        last = [] if predictor is None else [predictor]
        queues = [part.permute(1, 2, 0) for part in torch.split(rows, layout.memories)]
        return WaveNetState(
            [_copy(queue) for queue in (inputs, *queues, *last)],
            self.position,
        )

    def _predictor_queue(self) -> Tensor | None:
        """Return the queue of the linear predictor, `(streams, order + 2)`."""
        if self.predictor is None:
            return None
        return self.predictor.to_queue(self.batch_size, self.layout.order, self.position)


def to_history(codes: Tensor) -> Tensor:
    """Return codes `(rows, streams)` as `WarpState.history`."""
    return per_thread(codes.int())


def _copy(queue: Tensor) -> Tensor:
    return queue.clone(memory_format=torch.contiguous_format)
