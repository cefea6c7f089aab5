"""State of a batch in the order in which the threads of a warp read it.

Its conversion from and to `WaveNetState` is exact: what a queue stores in bfloat16 becomes the
floats that it represents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.config import WaveNetConfig
from wavenet.distributions import Distribution
from wavenet.model import WaveNetState
from wavenet.modules.conv import SILENCE_CODE
from wavenet.sampling.cuda.packing import STREAMS, from_slots, padded, to_slots


class Layout:
    """Where the queues of a model lie: one after the other, a row per sample, as in `GraphState`.

    Args:
        config: The model's.
        distribution: Its distribution.
        dtype: Of the queues of the blocks: `float32` or `bfloat16`.
        device: Of the states.

    Attributes:
        memories: Rows of each block's queue.
        input_memory: Rows of the input layer's.
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
        self.silence = config.quantization_channels

    def new_state(self, streams: int) -> "WarpState":
        """Return the state before the first sample."""
        shape = sum(self.memories), streams, self.config.residual_channels
        queues = torch.zeros(shape, dtype=self.dtype, device=self.device)
        history = torch.full((self.input_memory, streams), self.silence, device=self.device)
        return WarpState(self, to_slots(queues, self.dtype), to_history(history), streams)

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
        rows = torch.cat([queue.permute(2, 0, 1) for queue in queues]).float()
        inputs = first.flatten(1).T
        if first.is_floating_point():
            before = torch.arange(1, self.input_memory + 1, device=self.device)
            known = torch.zeros_like(before, dtype=torch.bool)
            known[(state.position - before) % max(self.input_memory, 1)] = before <= state.position
            codes = self.distribution.encode(inputs)
            inputs = codes.where(known.unsqueeze(1), self.silence)
        else:
            inputs = inputs.where(inputs != SILENCE_CODE, self.silence)
        streams = rows.shape[1]
        slots = to_slots(rows, self.dtype)
        return WarpState(self, slots, to_history(inputs), streams, state.position)


@dataclass
class WarpState:
    """A `WaveNetState` in the layout of the kernel.

    Attributes:
        layout: Where each queue lies.
        queues: Of all blocks, `(rows, warps, slots, ...)`.
        history: Codes of the input layer's queue, `(rows, warps, 8, 4, 2)`: a copy per thread.
        batch_size: Streams; the rest of the last warp is padding.
        position: Samples seen so far.
    """

    layout: Layout
    queues: Tensor
    history: Tensor
    batch_size: int
    position: int = 0

    def clone(self) -> "WarpState":
        """Return an independent copy."""
        queues, history = self.queues.clone(), self.history.clone()
        return WarpState(self.layout, queues, history, self.batch_size, self.position)

    def select(self, items: Sequence[int]) -> "WarpState":
        """Return an independent copy of some streams."""
        chosen, width = list(items), self.layout.config.residual_channels
        queues = from_slots(self.queues, self.batch_size, width)[:, chosen]
        history = from_history(self.history, self.batch_size)[:, chosen]
        slots = to_slots(queues, self.layout.dtype)
        return WarpState(self.layout, slots, to_history(history), len(chosen), self.position)

    def to_wavenet_state(self) -> WaveNetState:
        """Return the state in the layout of `WaveNet.step`."""
        layout, config = self.layout, self.layout.config
        rows = from_slots(self.queues, self.batch_size, config.residual_channels)
        inputs = from_history(self.history, self.batch_size).T
        if config.input_type == "scalar":
            values = layout.distribution.decode(inputs.clamp(max=layout.silence - 1))
            inputs = values.where(inputs != layout.silence, 0.0).unsqueeze(1)
        else:
            inputs = inputs.where(inputs != layout.silence, SILENCE_CODE)
        queues = [part.permute(1, 2, 0) for part in torch.split(rows, layout.memories)]
        return WaveNetState(
            [queue.clone(memory_format=torch.contiguous_format) for queue in (inputs, *queues)],
            self.position,
        )


def to_history(codes: Tensor) -> Tensor:
    """Return codes `(rows, streams)` as the threads of a warp have them, `(rows, warps, 8, 4, 2)`.

    All four threads of a group have the codes of its two streams.
    """
    rows, streams = codes.shape
    whole = codes.new_zeros(rows, padded(streams), dtype=torch.int32)
    whole[:, :streams] = codes
    groups = whole.view(rows, padded(streams) // STREAMS, STREAMS // 2, 1, 2)
    return groups.expand(-1, -1, -1, 4, -1).contiguous()


def from_history(history: Tensor, streams: int) -> Tensor:
    """Return the codes that `to_history` packed, `(rows, streams)`, int64."""
    return history[:, :, :, 0].flatten(1)[:, :streams].long()
