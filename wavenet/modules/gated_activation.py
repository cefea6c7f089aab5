"""The gate of the training pass: tanh of one half of the channels times sigmoid of the other.

Its products are matrix products, which every machine does well; the gate is many small steps over
as much memory. So it is a class of its own, which may be replaced by one written for a machine.
WaveNet, section 2.3.
"""

import torch
from torch import Tensor


class GatedActivation:
    """Gates over rows, by PyTorch.

    Args:
        rows: Samples, of all items of a batch.
        half: Width of the gate's output.
        like: Says precision and device.
    """

    def __init__(self, rows: int, half: int, like: Tensor) -> None:
        self.rows = rows
        self.half = half

    def forward(self, y: Tensor, bias: Tensor | None, z: Tensor) -> Tensor:
        """Write the gate of `y`, `(rows, 2 * half)`, plus bias, to `z`, `(rows, half)`; return it.

        What is returned may lie elsewhere, and is good until the next call.
        """
        return torch.mul(*_tanh_and_sigmoid(y, bias), out=z)

    def backward(
        self, y: Tensor, bias: Tensor | None, grad_z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradient of `y`, the same across, the gate across, and the bias's gradient.

        Across, `(2 * half, rows)` and `(half + 1, rows)`, they are what a weight's gradient is a
        product of; the gate's last row is ones, for the gradient of a bias behind it. These are
        good until the next call. The bias's gradient is in parts, `(parts, 2 * half)`, whose sum it
        is.

        Args:
            y: What went into the gate.
            bias: What was added to it.
            grad_z: Gradient of what came out.
        """
        tanh, sigmoid = _tanh_and_sigmoid(y, bias)
        z = tanh * sigmoid
        grad_y = torch.cat(
            [grad_z * sigmoid * (1 - tanh * tanh), grad_z * z * (1 - sigmoid)], dim=1
        )
        z_across = torch.cat([z, torch.ones_like(z[:, :1])], dim=1).t()
        return grad_y, grad_y.t(), z_across, grad_y.sum(dim=0, keepdim=True)


def _tanh_and_sigmoid(y: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    tanh, sigmoid = (y if bias is None else y + bias.to(y.dtype)).chunk(2, dim=1)
    return tanh.tanh(), sigmoid.sigmoid()
