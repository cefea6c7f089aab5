"""What the fused stack computes with rows: dilated convolutions, gates, and their gradients.

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
    delays: Sequence[int]  # rows that each tap looks back, the oldest tap first


def as_rows(x: Tensor) -> Tensor:
    """Return `(B, C, T)` as rows of `C`, sample by sample, `(T * B, C)`."""
    return x.permute(2, 0, 1).reshape(-1, x.shape[1])


def convolve_rows(x: Tensor, conditioning: Tensor | None, block: BlockWeights) -> Tensor:
    """Return the input of the gate without the bias, `(rows, gate_channels)`."""
    y = x.new_empty(len(x), block.taps.shape[1])
    for first, last in _cached_ranges(y):
        torch.mm(x[first:last], block.taps[-1].t(), out=y[first:last])
        for tap, delay in zip(block.taps[:-1], block.delays[:-1], strict=True):
            start = max(first, delay)
            if start < last:
                y[start:last].addmm_(x[start - delay : last - delay], tap.t())
        if conditioning is not None and block.conditioning is not None:
            y[first:last].addmm_(conditioning[first:last], block.conditioning.t())
    return y


def write_tap_gradients(grad_y_t: Tensor, x: Tensor, delays: Sequence[int], out: Tensor) -> None:
    """Write the gradient of the taps to `out`, from that of the output, `(gate_channels, rows)`."""
    for tap, delay in zip(out, delays, strict=True):
        if delay < len(x):
            torch.mm(grad_y_t[:, delay:], x[: len(x) - delay], out=tap)
        else:
            tap.zero_()


def input_gradient(
    grad_x: Tensor | None, grad_y: Tensor, block: BlockWeights, mask: Tensor | None
) -> Tensor:
    """Return the gradient of a block's input from those of its output and its convolution's.

    `grad_x`, that of its output, is changed in place.
    """
    rows = len(grad_y)
    if grad_x is None:
        grad_x = grad_y.new_zeros(rows, block.taps.shape[2])
    grad_seen = grad_x if mask is None else torch.zeros_like(grad_x)
    for first, last in _cached_ranges(grad_y):
        for tap, delay in zip(block.taps, block.delays, strict=True):
            stop = min(last, rows - delay)
            if first < stop:
                grad_seen[first:stop].addmm_(grad_y[first + delay : stop + delay], tap)
    return grad_x if mask is None else grad_x.addcmul_(grad_seen, mask)


class GatedActivation:
    """Tanh of half the channels times sigmoid of the other half, in PyTorch.

    The rest of the fused stack is matrix products, which PyTorch computes fast everywhere. This
    consists of many elementwise operations on the same memory, so it is a class of its own that
    compiled code can replace. WaveNet, section 2.3.

    Args:
        rows: Number of samples in all items of the batch.
        half: Width of the output.
        like: A tensor of the precision and device to use.
    """

    def __init__(self, rows: int, half: int, like: Tensor) -> None:
        self.rows = rows
        self.half = half

    def forward(self, y: Tensor, bias: Tensor | None, z: Tensor) -> Tensor:
        """Write the gated activation of `y + bias` to `z`, and return it.

        The returned tensor may be another one with the same values, valid until the next call.

        Args:
            y: Input, `(rows, 2 * half)`.
            bias: Added to each row, if present.
            z: Output, `(rows, half)`.
        """
        return torch.mul(*_tanh_and_sigmoid(y, bias), out=z)

    def backward(
        self, y: Tensor, bias: Tensor | None, grad_z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradient of `y`, both it and `z` transposed, and the gradient of the bias.

        The transposed tensors, `(2 * half, rows)` and `(half + 1, rows)`, are factors of weight
        gradients; the last row of `z` is ones, for the gradient of the next layer's bias. All are
        valid until the next call. The bias's gradient is the sum over the rows of `(parts, 2 *
        half)`.

        Args:
            y: Input of `forward`.
            bias: Bias of `forward`.
            grad_z: Gradient of the output.
        """
        tanh, sigmoid = _tanh_and_sigmoid(y, bias)
        z = tanh * sigmoid
        grad_y = torch.cat(
            [grad_z * sigmoid * (1 - tanh * tanh), grad_z * z * (1 - sigmoid)], dim=1
        )
        z_transposed = torch.cat([z, torch.ones_like(z[:, :1])], dim=1).t()
        return grad_y, grad_y.t(), z_transposed, grad_y.sum(dim=0, keepdim=True)


def _tanh_and_sigmoid(y: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    tanh, sigmoid = (y if bias is None else y + bias.to(y.dtype)).chunk(2, dim=1)
    return tanh.tanh(), sigmoid.sigmoid()


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
