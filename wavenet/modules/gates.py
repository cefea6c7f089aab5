"""The gate of the training pass: tanh of one half of the channels times sigmoid of the other.

Its products are matrix products, which every machine does well; the gate is many small steps over
as much memory. So it is a class of its own, which may be replaced by one written for a machine.
WaveNet, section 2.3.
"""

import torch
from torch import Tensor


class Gates:
    """Gates over rows, by PyTorch.

    Args:
        rows: Samples, of all items of a batch.
        half: Width of the gate's output.
        like: Says precision and device.
    """

    def __init__(self, rows: int, half: int, like: Tensor) -> None:
        self.rows = rows
        self.half = half

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Write the gate of `y`, `(rows, 2 * half)`, to `z`, `(rows, half)`; return it.

        What is returned may lie elsewhere, and is good until the next call.
        """
        tanh, sigmoid = y.chunk(2, dim=1)
        return torch.mul(tanh.tanh(), sigmoid.sigmoid(), out=z)

    def backward(self, y: Tensor, grad_z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradient of `y`, the same across, and the gate across.

        Across, `(2 * half, rows)` and `(half + 1, rows)`, they are what a weight's gradient is a
        product of; the gate's last row is ones, for the gradient of a bias. All are good until the
        next call.

        Args:
            y: What went into the gate.
            grad_z: Gradient of what came out.
        """
        tanh, sigmoid = y.chunk(2, dim=1)
        tanh, sigmoid = tanh.tanh(), sigmoid.sigmoid()
        z = tanh * sigmoid
        grad_y = torch.cat(
            [grad_z * sigmoid * (1 - tanh * tanh), grad_z * z * (1 - sigmoid)], dim=1
        )
        return grad_y, grad_y.t(), torch.cat([z, torch.ones_like(z[:, :1])], dim=1).t()
