"""Dilated convolutions over rows, and their gradients.

A signal `(B, C, T)` is stored as `T * B` rows of `C` numbers, sample by sample. A 1x1 convolution
is one matrix product; a delay by `d` samples is a view from row `d * B` on, so each tap of a
dilated convolution is a product that is added to some of the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROW_RANGE_BYTES = 2**21  # of rows to which all taps are added while they are in the cache


@dataclass
class BlockWeights:
    """What one block computes with, in the precision of the computation."""

    taps: Tensor  # (kernel_size, gate_channels, residual_channels), the current sample's last
    bias: Tensor | None  # in its own precision
    conditioning: Tensor | None  # (gate_channels, conditioning_channels)
    residual: Tensor | None  # (residual_channels, gate_channels / 2)
    residual_bias: Tensor | None


def as_rows(x: Tensor) -> Tensor:
    """Return `(B, C, T)` as rows of `C`, sample by sample, `(T * B, C)`."""
    return x.permute(2, 0, 1).reshape(-1, x.shape[1])


def tap_delays(dilation: int, kernel_size: int, batch_size: int) -> list[int]:
    """Return the rows that each tap looks back, the oldest tap first."""
    return [taps_back * dilation * batch_size for taps_back in reversed(range(kernel_size))]


def convolve_rows(
    x: Tensor, conditioning: Tensor | None, block: BlockWeights, delays: Sequence[int]
) -> Tensor:
    """Return the input of the gate without the bias, `(rows, gate_channels)`."""
    y = x.new_empty(len(x), block.taps.shape[1])
    for first, last in _cached_ranges(y):
        torch.mm(x[first:last], block.taps[-1].t(), out=y[first:last])
        for tap, delay in zip(block.taps[:-1], delays[:-1], strict=True):
            start = max(first, delay)
            if start < last:
                y[start:last].addmm_(x[start - delay : last - delay], tap.t())
        if conditioning is not None and block.conditioning is not None:
            y[first:last].addmm_(conditioning[first:last], block.conditioning.t())
    return y


def write_tap_gradients(grad_y_t: Tensor, x: Tensor, delays: Sequence[int], out: Tensor) -> None:
    """Write the gradient of a dilated convolution's weight.

    Args:
        grad_y_t: Gradient of its output, `(gate_channels, rows)`.
        x: Its input, `(rows, C)`.
        delays: Rows that each tap looks back.
        out: The gradient, `(kernel_size, gate_channels, C)`.
    """
    for tap, delay in zip(out, delays, strict=True):
        if delay < len(x):
            torch.mm(grad_y_t[:, delay:], x[: len(x) - delay], out=tap)
        else:
            tap.zero_()


def input_gradient(
    grad_x: Tensor | None,
    grad_y: Tensor,
    block: BlockWeights,
    delays: Sequence[int],
    mask: Tensor | None,
) -> Tensor:
    """Return the gradient of a block's input from those of its output and its convolution's.

    `grad_x`, that of its output, is changed in place.
    """
    rows = len(grad_y)
    if grad_x is None:
        grad_x = grad_y.new_zeros(rows, block.taps.shape[2])
    grad_seen = grad_x if mask is None else torch.zeros_like(grad_x)
    for first, last in _cached_ranges(grad_y):
        for tap, delay in zip(block.taps, delays, strict=True):
            stop = min(last, rows - delay)
            if first < stop:
                grad_seen[first:stop].addmm_(grad_y[first + delay : stop + delay], tap)
    return grad_x if mask is None else grad_x.addcmul_(grad_seen, mask)


def dropout_mask(x: Tensor, dropout: float) -> Tensor | None:
    """Return what the input of a convolution is multiplied by: 0, or 1 / (1 - dropout)."""
    if not dropout:
        return None
    if dropout == 1.0:
        return torch.zeros_like(x)
    return torch.empty_like(x).bernoulli_(1 - dropout).div_(1 - dropout)


def _cached_ranges(rows: Tensor) -> list[tuple[int, int]]:
    """Return first and last row of ranges that a CPU's cache holds; other devices take all rows."""
    size = len(rows)
    if rows.device.type == "cpu":
        size = max(1, ROW_RANGE_BYTES // (rows.shape[1] * rows.element_size()))
    return [(first, min(first + size, len(rows))) for first in range(0, len(rows), size)]
