"""Gated activation of the fused stack: tanh of half the channels times sigmoid of the other half.

The rest of the fused stack is matrix products, which PyTorch computes fast everywhere. The gated
activation consists of many elementwise operations on the same memory, so it is a class of its own
that compiled code can replace. WaveNet, section 2.3.
"""

import torch
from torch import Tensor


class GatedActivation:
    """Gated activation over rows, in PyTorch.

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
