"""Causal convolution of a one-hot signal, by table look-ups.

A convolution over one-hot classes selects one column of its weight for each tap. The sum of
`kernel_size` look-ups gives the same numbers without multiplying by zeros.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SILENCE_CODE = -1  # class of the samples before the first: it adds nothing


class CausalEmbedding(nn.Module):
    """Sum of embeddings of the current class and of `kernel_size - 1` classes before it.

    Args:
        num_classes: Rows of each table.
        channels: Width of the output.
        kernel_size: Tables, 1 or more; the last one is the current sample's.
        bias: Whether to add a bias.

    Shape:
        - Input: `(B, T)`, int64 classes from 0 to `num_classes - 1`
        - Output: `(B, channels, T)`
    """

    def __init__(
        self, num_classes: int, channels: int, kernel_size: int = 1, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.memory = kernel_size - 1
        self.weight = nn.Parameter(torch.empty(kernel_size, num_classes, channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self._init_as_ramps()

    @torch.no_grad()
    def _init_as_ramps(self) -> None:
        """Initialize each channel as a ramp over the classes plus noise.

        Classes of a waveform are ordered; a table of independent noise would have to learn that.
        """
        kernel_size, num_classes, channels = self.weight.shape
        ramp = torch.linspace(-(3**0.5), 3**0.5, num_classes).unsqueeze(1)  # of variance 1
        slopes = torch.randn(kernel_size, 1, channels)
        noise = torch.randn_like(self.weight)
        self.weight.copy_((ramp * slopes + 0.1 * noise) * kernel_size**-0.5)

    def forward(self, codes: Tensor) -> Tensor:
        tables = self.weight.unbind()
        y = F.embedding(codes, tables[-1])  # (B, T, channels)
        for shift, table in enumerate(reversed(tables[:-1]), start=1):
            delayed = F.embedding(codes[:, :-shift], table)
            y = y + F.pad(delayed, (0, 0, codes.shape[1] - delayed.shape[1], 0))
        if self.bias is not None:
            y = y + self.bias
        return y.transpose(1, 2)

    def new_queue(self, batch_size: int) -> Tensor:
        """Return the past of the first sample, `(B, memory)` of `SILENCE_CODE`."""
        shape = (batch_size, self.memory)
        return torch.full(shape, SILENCE_CODE, dtype=torch.int64, device=self.weight.device)

    def prefill(self, queue: Tensor, codes: Tensor, position: int) -> None:
        """Store the end of `codes`, `(B, T)` up to sample `position - 1`, in the queue."""
        if self.memory:
            recent = codes[:, -self.memory :]
            samples = torch.arange(position - recent.shape[1], position, device=codes.device)
            queue[:, samples % self.memory] = recent

    def step(self, code: Tensor, queue: Tensor, position: int) -> Tensor:
        """Return output sample `position`, `(B, channels)`; `code`, `(B,)`, enters the queue."""
        tables = self.weight.unbind()
        y = F.embedding(code, tables[-1])
        for shift, table in enumerate(reversed(tables[:-1]), start=1):
            past = queue[:, (position - shift) % self.memory]
            is_code = (past != SILENCE_CODE).unsqueeze(-1)
            y = y + F.embedding(past.clamp(min=0), table) * is_code
        if self.memory:
            queue[:, position % self.memory] = code
        return y if self.bias is None else y + self.bias
