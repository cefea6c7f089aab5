"""From the sum of the skips to the parameters of a distribution. WaveNet, section 2.4."""

from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules.checks import check_tensor
from wavenet.modules.conv import pointwise


class Head(nn.Module):
    """From the sum of the skips to parameters: ReLU, 1x1 convolution, ReLU, 1x1 convolution.

    WaveNet, section 2.4 (arXiv:1609.03499).

    Args:
        in_channels: Width of the skip sum.
        channels: Width between the convolutions.
        out_channels: Distribution parameters per sample.
        bias: Whether the convolutions have biases.

    Shape:
        - Input: `(B, in_channels, T)`
        - Output: `(B, out_channels, T)`

    Raises:
        ValueError: The input has another width.
    """

    def __init__(
        self, in_channels: int, channels: int, out_channels: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(in_channels, channels, 1, bias=bias)
        self.output = nn.Conv1d(channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor("the head's input", x)
        if x.dim() != 3 or x.shape[1] != self.hidden.in_channels:
            wanted = f"(B, {self.hidden.in_channels}, T)"
            raise ValueError(f"the head's input must be {wanted}, got {tuple(x.shape)}")
        return self.step(x.transpose(1, 2)).transpose(1, 2)

    def step(self, x: Tensor) -> Tensor:
        """Return the parameters of one sample, or of several with channels last, `(..., P)`."""
        check_tensor("the input of a step", x)
        if x.shape[-1] != self.hidden.in_channels:
            wanted = f"(..., {self.hidden.in_channels})"
            raise ValueError(f"the input of a step must be {wanted}, got {tuple(x.shape)}")
        return pointwise(self.output, F.relu(pointwise(self.hidden, F.relu(x))))
