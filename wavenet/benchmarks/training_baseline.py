"""WaveNet in PyTorch's own layers: the baseline of the training speed.

Activations are `(B, C, T)`; a block is a padded `Conv1d`, tanh times sigmoid, and a sum of skips.
The same weights give the same likelihood as in `WaveNet`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import WaveNetConfig
from wavenet.distributions.categorical import mu_law_encode


class BaselineWaveNet(nn.Module):
    """An unconditional model of mu-law classes.

    Args:
        config: Shape of the weights.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        width, half = config.residual_channels, config.gate_channels // 2
        self.levels = config.quantization_channels
        self.kernel_size = config.kernel_size
        self.dilations = config.dilations
        self.embedding = nn.Embedding(config.quantization_channels, width)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, 2 * half, config.kernel_size, dilation=dilation)
            for dilation in config.dilations
        )
        self.residuals = nn.ModuleList(nn.Conv1d(half, width, 1) for _ in config.dilations[1:])
        self.skips = nn.ModuleList(
            nn.Conv1d(half, config.skip_channels, 1) for _ in config.dilations
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(config.skip_channels, config.head_channels, 1),
            nn.ReLU(),
            nn.Conv1d(config.head_channels, config.quantization_channels, 1),
        )

    def nll(self, waveform: Tensor) -> Tensor:
        """Return the negative log-likelihood of every sample in nats, `(B, T)`."""
        codes = mu_law_encode(waveform, self.levels)
        shifted = F.pad(codes, (1, 0), value=self.levels // 2)[:, :-1]
        x = self.embedding(shifted).transpose(1, 2)
        total = torch.zeros((), device=x.device)
        for block, dilation in enumerate(self.dilations):
            y = self.convs[block](F.pad(x, ((self.kernel_size - 1) * dilation, 0)))
            tanh, sigmoid = y.chunk(2, dim=1)
            z = torch.tanh(tanh) * torch.sigmoid(sigmoid)
            total = total + self.skips[block](z)
            if block < len(self.residuals):
                x = x + self.residuals[block](z)
        return F.cross_entropy(self.head(total).float(), codes, reduction="none")
