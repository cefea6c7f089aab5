"""What the fused stack computes with rows: dilated convolutions, gates, and their gradients.

A signal `(B, C, T)` is stored as `T * B` rows of `C` numbers, sample by sample. A 1x1 convolution
is one matrix product; a delay by `d` samples is a view from row `d * B` on, so each tap of a
dilated convolution is a product that is added to some of the rows. A look ahead is a negative
delay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

ROW_RANGE_BYTES = 2**21  # of rows to which all taps are added while they are in the cache


class Matmul(Protocol):
    """A product of two matrices, which is written to `out` or added to it."""

    def __call__(self, a: Tensor, b: Tensor, out: Tensor, *, add: bool = False) -> None: ...


def matmul(a: Tensor, b: Tensor, out: Tensor, *, add: bool = False) -> None:
    """Write the product of two matrices to `out`, or add it; compiled code can replace this."""
    if add:
        out.addmm_(a, b)
    else:
        torch.mm(a, b, out=out)


@dataclass
class BlockWeights:
    """What one block computes with, in the precision of the computation."""

    taps: Tensor  # (kernel_size, gate_channels, residual_channels), the oldest sample's first
    bias: Tensor | None  # in its own precision
    conditioning: Tensor | None  # (gate_channels, conditioning_channels)
    residual: Tensor | None  # (residual_channels, gate_channels / 2)
    residual_bias: Tensor | None
    delays: Sequence[int]  # rows that each tap looks back, the oldest tap first; ahead if negative
    matmul: Matmul


def as_rows(x: Tensor) -> Tensor:
    """Return `(B, C, T)` as rows of `C`, sample by sample, `(T * B, C)`."""
    return x.permute(2, 0, 1).reshape(-1, x.shape[1])


def finite_rows(like: Tensor, width: int) -> Tensor:
    """Return memory for rows of which products read some columns before the others are written.

    16-bit products of CPUs with AMX multiply what lies beyond those columns by zero (oneDNN 5717):
    where memory happens to hold NaN, so would the product.
    """
    is_safe = like.device.type != "cpu" or like.element_size() > 2
    return (like.new_empty if is_safe else like.new_zeros)(len(like), width)


def convolve_rows(x: Tensor, conditioning: Tensor | None, block: BlockWeights) -> Tensor:
    """Return the input of the gate without the bias, `(rows, gate_channels)`."""
    y, current = x.new_empty(len(x), block.taps.shape[1]), block.delays.index(0)
    taps = block.taps.transpose(1, 2)
    if block.matmul is not matmul:  # compiled products read rows: transposed once for all ranges
        taps = taps.contiguous()
    for first, last in _cached_ranges(y):
        block.matmul(x[first:last], taps[current], y[first:last])
        for tap, delay in zip(taps, block.delays, strict=True):
            start, stop = max(first, delay), min(last, len(x) + delay)
            if delay and start < stop:
                block.matmul(x[start - delay : stop - delay], tap, y[start:stop], add=True)
        if conditioning is not None and block.conditioning is not None:
            projection = block.conditioning.t()
            block.matmul(conditioning[first:last], projection, y[first:last], add=True)
    return y


def write_tap_gradients(grad_y_t: Tensor, x: Tensor, block: BlockWeights, out: Tensor) -> None:
    """Write the gradient of the taps to `out`, from that of the output, `(gate_channels, rows)`."""
    rows = len(x)
    for tap, delay in zip(out, block.delays, strict=True):
        start, stop = max(0, delay), min(rows, rows + delay)
        if start < stop:
            block.matmul(grad_y_t[:, start:stop], x[start - delay : stop - delay], tap)
        else:
            tap.zero_()


def add_input_gradient(grad_x: Tensor, grad_y: Tensor, block: BlockWeights) -> None:
    """Add the gradient of a dilated convolution's input to `grad_x`."""
    rows = len(grad_y)
    for first, last in _cached_ranges(grad_y):
        for tap, delay in zip(block.taps, block.delays, strict=True):
            start, stop = max(first, -delay), min(last, rows - delay)
            if start < stop:
                delayed = grad_y[start + delay : stop + delay]
                block.matmul(delayed, tap, grad_x[start:stop], add=True)


class MakeGatedActivation(Protocol):
    """What makes a `GatedActivation` for a tensor's rows: the class itself, for example."""

    def __call__(self, rows: int, half: int, like: Tensor) -> "GatedActivation": ...


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
