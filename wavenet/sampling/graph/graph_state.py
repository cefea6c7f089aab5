"""State of the step: the queues of all blocks in one tensor.

Its conversion from and to `WaveNetState` is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.model import WaveNet, WaveNetState
from wavenet.utils.shared_constants import SILENCE_CODE


class Layout:
    """Where the queues of a model lie: one after the other in one tensor, a row per sample.

    Sample `t` is in row `t % memory` of its queue, as in `WaveNetState`.

    Args:
        model: The model.
        like: Dtype and device of the queues.

    Attributes:
        memories: Rows of each block's queue.
        ring: Samples in the queue of the linear predictor.
        given_rows: Coefficients of a sample that come with its conditioning, and its scale.
        row_counts: Row numbers of a sample in `rows`: reads of the blocks, `L * (K - 1)`, oldest
            tap first; their writes, `L`; reads of the input layer, `I - 1`, newest tap first; its
            write, 1; reads of the linear predictor, `order`, oldest sample first; its write, 1.
    """

    def __init__(self, model: WaveNet, like: Tensor) -> None:
        self.config = config = model.config
        self.predictor = model.predictor
        self.like = like.new_zeros(0)
        self.memories = [(config.kernel_size - 1) * dilation for dilation in config.dilations]
        self.input_memory = config.input_kernel_size - 1
        self.is_embedding = config.input_type != "scalar"
        self.order = 0 if self.predictor is None else self.predictor.order
        self.ring = 1 if self.predictor is None else self.predictor.memory
        self.given_rows = 0 if model.mel_predictor is None else model.mel_predictor.num_rows
        self.num_signals = model.num_signals
        num_blocks, taps = len(config.dilations), config.kernel_size - 1
        self.row_counts = [num_blocks * taps, num_blocks, self.input_memory, 1, self.order, 1]
        device = like.device
        dilations = torch.tensor(config.dilations, device=device)
        self._memory = torch.tensor(self.memories, device=device)
        self._first = self._memory.cumsum(0) - self._memory
        offsets = torch.arange(config.kernel_size - 1, 0, -1, device=device)
        self._before = dilations.unsqueeze(1) * offsets  # (L, K - 1)
        self._input_before = torch.arange(1, config.input_kernel_size, device=device)

    def rows(self, position: int, length: int) -> Tensor:
        """Return the rows that samples from `position` on read and write, `(T, row_counts)`."""
        times = torch.arange(position, position + length, device=self.like.device).unsqueeze(1)
        memory = self._memory.clamp(min=1)  # nothing is read or written where it is 0
        reads = (times.unsqueeze(1) - self._before) % memory.unsqueeze(1)
        reads = (reads + self._first.unsqueeze(1)).flatten(1)
        writes = times % memory + self._first
        input_reads = (times - self._input_before) % max(self.input_memory, 1)
        input_writes = times % max(self.input_memory, 1)
        past = (times + torch.arange(1 - self.order, 1, device=times.device)) % self.ring
        return torch.cat([reads, writes, input_reads, input_writes, past, times % self.ring], dim=1)

    def new_state(self, streams: int) -> "GraphState":
        """Return the state before the first sample."""
        width, past = self.config.residual_channels, (self.input_memory, self.num_signals, streams)
        if self.is_embedding:
            silence = self.config.quantization_channels
            inputs = self.like.new_full(past, silence, dtype=torch.int64)
        else:
            inputs = self.like.new_zeros(past)
        queues = self.like.new_zeros(sum(self.memories), streams, width)
        predicted = None
        if self.predictor is not None:
            predicted = self.predictor.new_queue(streams).to(self.like.device)
        return GraphState(self, queues, inputs, predicted)

    def pack(self, state: WaveNetState) -> "GraphState":
        """Return a state of this model, in its dtype and on its device, in this layout."""
        first, *queues = state.queues
        predicted = queues.pop().clone() if self.order else None
        rows = torch.cat([queue.permute(2, 0, 1) for queue in queues])
        inputs = (first.unsqueeze(1) if first.dim() == 2 else first).permute(2, 1, 0)
        if self.is_embedding:
            inputs = inputs.where(inputs != SILENCE_CODE, self.config.quantization_channels)
        return GraphState(self, rows.contiguous(), _copy(inputs), predicted, state.position)


@dataclass
class GraphState:
    """A `WaveNetState` in the layout of the step.

    Attributes:
        layout: Where each queue lies.
        queues: Of all blocks, `(rows, streams, R)`.
        inputs: Queue of the input layer, `(I - 1, G, streams)`: values, or codes, of which there is
            one more for silence.
        predicted: Queue of the linear predictor, `(streams, N)`, if there is one.
        position: Samples seen so far.
    """

    layout: Layout
    queues: Tensor
    inputs: Tensor
    predicted: Tensor | None = None
    position: int = 0

    @property
    def batch_size(self) -> int:
        """Return the number of streams."""
        return self.queues.shape[1]

    @property
    def nbytes(self) -> int:
        """Return the memory of the state."""
        predicted = 0 if self.predicted is None else self.predicted.nbytes
        return self.queues.nbytes + self.inputs.nbytes + predicted

    def clone(self) -> "GraphState":
        """Return an independent copy."""
        return self.select(range(self.batch_size))

    def select(self, items: Sequence[int]) -> "GraphState":
        """Return an independent copy of some streams."""
        chosen = list(items)
        predicted = None if self.predicted is None else self.predicted[chosen]
        return GraphState(
            self.layout,
            self.queues[:, chosen],
            self.inputs[..., chosen],
            predicted,
            self.position,
        )

    def to_wavenet_state(self) -> WaveNetState:
        """Return the state in the layout of `WaveNet.step`."""
        inputs, layout = self.inputs.permute(2, 1, 0), self.layout
        if layout.is_embedding:
            inputs = inputs.where(inputs != layout.config.quantization_channels, SILENCE_CODE)
            inputs = inputs.squeeze(1) if layout.num_signals == 1 else inputs
        queues = [part.permute(1, 2, 0) for part in torch.split(self.queues, layout.memories)]
        last = [] if self.predicted is None else [self.predicted]
        return WaveNetState([_copy(queue) for queue in (inputs, *queues, *last)], self.position)


def _copy(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)
