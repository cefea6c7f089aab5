"""Causal convolutions, of values and of classes, and one that sees both sides.

The causal ones process a whole signal or one sample at a time: `forward` processes `T` samples at
once, for training; `step` processes one sample and keeps the past in a queue, for generation. Both
return the same numbers. `CausalEmbedding` is the convolution of a one-hot signal by look-ups.

WaveNet, section 2.1 (arXiv:1609.03499); the queues are Fast WaveNet's (arXiv:1611.09482).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules.checks import (
    check_classes,
    check_dtype,
    check_prefill,
    check_sizes,
    check_step,
    check_step_is_whole,
)
from wavenet.modules.empty import KeepsConstants
from wavenet.modules.standard import overridden_call
from wavenet.utils.shared_constants import SILENCE_CODE


class CausalConv1d(nn.Conv1d):
    """Convolution whose output at sample `t` sees the input up to and including `t`.

    WaveNet, section 2.1 (arXiv:1609.03499).

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        kernel_size: Taps, 1 or more; the last one is the current sample's.
        dilation: Samples from one tap to the next, 1 or more.
        bias: Whether to add a bias.

    Shape:
        - Input: `(B, in_channels, T)`
        - Output: `(B, out_channels, T)`

    Raises:
        ValueError: A size is no whole number, or below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        *,
        bias: bool = True,
    ) -> None:
        check_sizes(1, in_channels=in_channels, out_channels=out_channels)
        check_sizes(1, kernel_size=kernel_size, dilation=dilation)
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation, bias=bias)
        self.memory: int = (kernel_size - 1) * dilation  # past samples that one output needs
        self.sides = (self.memory, 0)  # samples needed before and after

    def forward(self, x: Tensor) -> Tensor:
        check_dtype(x, self)
        return super().forward(F.pad(x, (self.memory, 0)))

    def new_queue(self, batch_size: int) -> Tensor:
        """Return the silence before the first sample, zeros `(B, in_channels, memory)`.

        Raises:
            ValueError: There are hooks, or a `forward`, that `step` would leave out.
        """
        check_step_is_whole(self)
        return self.weight.new_zeros(batch_size, self.in_channels, self.memory)

    def prefill(self, queue: Tensor, x: Tensor, position: int) -> None:
        """Store the end of `x` in the queue, as `step` would do sample by sample.

        Args:
            queue: From `new_queue`, changed in place.
            x: Inputs up to and including sample `position - 1`, `(B, in_channels, T)`; with fewer
                than `memory` samples, what the queue held before them stays.
            position: Number of samples before the next step, `T` or more.

        Raises:
            ValueError: `x` has another batch size, width or dtype, or more than `position` samples.
        """
        check_prefill(x, queue, position)
        check_dtype(x, self)
        _fill_queue(queue, x, position)

    def step(self, x: Tensor, queue: Tensor, position: int) -> Tensor:
        """Return output sample `position`, `(B, out_channels)`.

        Args:
            x: Input sample `position`, `(B, in_channels)`.
            queue: From `new_queue`; `x` replaces its oldest sample, in place.
            position: Number of samples before this one, from 0.

        Raises:
            ValueError: `x` or `queue` has another shape, or `position` is negative.
        """
        check_step(x, (self.in_channels,), queue, self.memory, position)
        check_dtype(x, self)
        if not self.memory:
            return F.linear(x, self.weight.squeeze(-1), self.bias)
        offsets = range(self.memory, 0, -self.dilation[0])  # oldest tap first
        past = [queue[..., (position - offset) % self.memory] for offset in offsets]
        taps = torch.stack([*past, x], dim=-1)  # (B, in_channels, kernel_size)
        queue[..., position % self.memory] = x
        return F.linear(taps.flatten(1), self.weight.flatten(1), self.bias)


class CausalEmbedding(KeepsConstants):
    """Sum of embeddings of the current class and of `kernel_size - 1` classes before it.

    A convolution over one-hot classes selects one column of its weight for each tap. The sum of
    `kernel_size` look-ups gives the same numbers without multiplying by zeros. Several signals add
    the rows of tables of their own.

    Args:
        num_classes: Rows of each table, 1 or more.
        channels: Width of the output.
        kernel_size: Tables, 1 or more; the last one is the current sample's.
        bias: Whether to add a bias.
        num_signals: Signals in the input, each with its own tables.
        class_of_code: Class of each code, `(codes,)` int64, if the input is codes of which several
            share a class; absent for classes.

    Shape:
        - Input: `(B, T)`, int64 classes from 0 to `num_classes - 1`; `(B, num_signals, T)` for
          several signals
        - Output: `(B, channels, T)`
    """

    class_of_code: Tensor | None

    def __init__(
        self,
        num_classes: int,
        channels: int,
        kernel_size: int = 1,
        *,
        bias: bool = True,
        num_signals: int = 1,
        class_of_code: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_sizes(1, num_classes=num_classes, channels=channels)
        check_sizes(1, kernel_size=kernel_size, num_signals=num_signals)
        self.memory = kernel_size - 1
        self.num_signals = num_signals
        self.weight = nn.Parameter(torch.empty(kernel_size, num_signals * num_classes, channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.register_buffer("class_of_code", class_of_code, persistent=False)
        self._init_as_ramps()

    @torch.no_grad()
    def _init_as_ramps(self) -> None:
        """Initialize each channel as a ramp over the classes plus noise.

        Classes of a waveform are ordered; a table of independent noise would have to learn that.
        """
        if self.weight.is_meta:
            return  # no values
        kernel_size, rows, channels = self.weight.shape
        for table in self.weight.view(kernel_size, self.num_signals, -1, channels).unbind(1):
            ramp = torch.linspace(-(3**0.5), 3**0.5, rows // self.num_signals).unsqueeze(1)
            slopes = torch.randn(kernel_size, 1, channels)  # ramps have a variance of 1
            noise = torch.randn_like(table)
            table.copy_((ramp * slopes + 0.1 * noise) * (kernel_size * self.num_signals) ** -0.5)

    def forward(self, codes: Tensor) -> Tensor:
        check_classes(codes)
        tables = self.weight.unbind()
        y = self._look_up(codes, tables[-1])  # (B, T, channels)
        for shift, table in enumerate(reversed(tables[:-1]), start=1):
            delayed = F.pad(self._look_up(codes, table), (0, 0, shift, 0))
            y = y + delayed[:, : codes.shape[-1]]
        if self.bias is not None:
            y = y + self.bias
        return y.transpose(1, 2)

    def new_queue(self, batch_size: int) -> Tensor:
        """Return the past of the first sample, `SILENCE_CODE`, `(B, memory)`.

        For several signals, `(B, num_signals, memory)`.
        """
        check_step_is_whole(self)
        shape = (batch_size, self.num_signals, self.memory)
        queue = self.weight.new_full(shape, SILENCE_CODE, dtype=torch.int64)
        return queue.squeeze(1) if self.num_signals == 1 else queue

    def prefill(self, queue: Tensor, codes: Tensor, position: int) -> None:
        """Store the end of `codes`, `(B, T)` up to sample `position - 1`, in the queue.

        For several signals, `(B, num_signals, T)`; `T` is at most `position`.
        """
        check_prefill(codes, queue, position)
        _fill_queue(queue, codes, position)

    def step(self, code: Tensor, queue: Tensor, position: int) -> Tensor:
        """Return output sample `position`, `(B, channels)`.

        Args:
            code: Class of the sample, `(B,)`, or `(B, num_signals)`; enters the queue.
            queue: From `new_queue`, changed in place.
            position: Number of samples before this one, from 0.

        Raises:
            ValueError: `code` or `queue` has another shape, or `position` is negative.
        """
        widths = () if self.num_signals == 1 else (self.num_signals,)
        check_step(code, widths, queue, self.memory, position)
        tables = self.weight.unbind()
        y = self._look_up(code.unsqueeze(-1), tables[-1]).squeeze(1)
        for shift, table in enumerate(reversed(tables[:-1]), start=1):
            past = queue[..., (position - shift) % self.memory]
            is_code = (past if past.dim() == 1 else past[:, 0]) != SILENCE_CODE
            row = self._look_up(past.clamp(min=0).unsqueeze(-1), table).squeeze(1)
            y = y + row * is_code.unsqueeze(-1)
        if self.memory:
            queue[..., position % self.memory] = code
        return y if self.bias is None else y + self.bias

    def _look_up(self, codes: Tensor, table: Tensor) -> Tensor:
        """Return the rows of codes, `(B, T, channels)`, summed over the signals.

        A check of their range would cost a pass over them: the look-up itself finds it on the CPU.
        """
        try:
            return self._rows_of(codes, table)
        except IndexError:
            count = len(table) // self.num_signals
            if self.class_of_code is not None:
                count = len(self.class_of_code)
            raise ValueError(
                f"classes must be 0 to {count - 1}, got {int(codes.min())} to {int(codes.max())}"
            ) from None

    def _rows_of(self, codes: Tensor, table: Tensor) -> Tensor:
        classes = codes if self.class_of_code is None else self.class_of_code[codes]
        if self.num_signals == 1:
            return F.embedding(classes, table)
        tables = zip(classes.unbind(1), table.chunk(self.num_signals), strict=True)
        y, *others = [F.embedding(own, rows) for own, rows in tables]
        for other in others:
            y = y + other
        return y


class SameConv1d(nn.Conv1d):
    """Convolution whose output at sample `t` sees the input on both sides of `t`.

    For dilated context where the future is known, as in an encoder or a denoiser. Its output has
    the length of its input for every kernel; an even kernel has one tap more in the future.
    Arguments, shapes and errors are those of `CausalConv1d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        *,
        bias: bool = True,
    ) -> None:
        check_sizes(1, in_channels=in_channels, out_channels=out_channels)
        check_sizes(1, kernel_size=kernel_size, dilation=dilation)
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation, bias=bias)
        self.memory: int = (kernel_size - 1) * dilation
        before = (kernel_size - 1) // 2 * dilation
        self.sides = (before, self.memory - before)

    def forward(self, x: Tensor) -> Tensor:
        check_dtype(x, self)
        return super().forward(F.pad(x, self.sides))


def convolve_window(conv: nn.Conv1d, x: Tensor, padding: tuple[int, int]) -> Tensor:
    """Return the outputs of a dilated convolution that see nothing but `x` and zeros around it.

    Args:
        conv: A `CausalConv1d` or `SameConv1d`, whose own padding is left out.
        x: Inputs, `(B, in_channels, T)`.
        padding: Number of zeros before and after them.
    """
    x = F.pad(x, padding) if any(padding) else x
    dilation, length = conv.dilation[0], x.shape[-1] - (conv.kernel_size[0] - 1) * conv.dilation[0]
    if dilation == 1 or length >= 8 * dilation:
        return nn.Conv1d.forward(conv, x)
    # for few outputs a dilated convolution is slow: it copies all of `x`, also between the taps
    starts = range(0, x.shape[-1] - length + 1, dilation)
    taps = torch.stack([x[..., start : start + length] for start in starts], dim=2)
    return F.conv1d(taps.flatten(1, 2), conv.weight.flatten(1).unsqueeze(-1), conv.bias)


def pointwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Return the output of a 1x1 convolution, channels last, `(..., C)` in and out.

    One with hooks, or with a `forward` of its own, is called.
    """
    if type(conv).forward is nn.Conv1d.forward and overridden_call(conv) is None:
        return F.linear(x, conv.weight.squeeze(-1), conv.bias)
    if x.dim() == 2:
        return cast(Tensor, conv(x.unsqueeze(-1))).squeeze(-1)
    return cast(Tensor, conv(x.transpose(-1, -2))).transpose(-1, -2)


def _fill_queue(queue: Tensor, x: Tensor, position: int) -> None:
    """Store the end of `x`, `(B, ..., T)` up to sample `position - 1`, in a queue."""
    memory = queue.shape[-1]
    if memory:
        recent = x[..., -memory:]
        samples = torch.arange(position - recent.shape[-1], position, device=x.device)
        queue[..., samples % memory] = recent
