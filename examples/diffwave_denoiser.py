"""Build DiffWave from a residual stack: non-causal, conditioned on the diffusion step.

One training step, then a sampling loop from noise, with tiny sizes: the paper's are 64 channels and
30 blocks in cycles of 10. A vocoder also takes a mel spectrogram, by `conditioning_channels=`.

DiffWave: Kong et al. 2021, arXiv:2009.09761, sections 2 and 3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules import ResidualStack

BETAS = torch.linspace(1e-4, 0.05, 50)  # variance of the noise that each diffusion step adds
SIGNAL_POWER = (1 - BETAS).cumprod(dim=0)  # after each step, of a signal with power 1


class DiffWave(nn.Module):
    """Predicts the noise, `(B, T)`, in a waveform `(B, T)` after diffusion steps `(B,)`."""

    def __init__(self, channels: int = 16, dilations: tuple[int, ...] = (1, 2, 4, 8) * 2) -> None:
        super().__init__()
        self.embedding = nn.ModuleList([nn.Linear(128, 512), nn.Linear(512, 512)])
        self.input = nn.Conv1d(1, channels, 1)
        widths = channels, 2 * channels, channels
        self.stack = ResidualStack(
            dilations,
            *widths,
            kernel_size=3,
            causal=False,
            residual_scale=0.5**0.5,
            skip_scale=len(dilations) ** -0.5,
            step_channels=512,
        )
        self.hidden = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv1d(channels, 1, 1)

    def forward(self, noisy: Tensor, step: Tensor) -> Tensor:
        angles = step.unsqueeze(1) * 10 ** torch.linspace(0, 4, 64)
        embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
        for layer in self.embedding:
            embedding = F.silu(layer(embedding))
        x = F.relu(self.input(noisy.unsqueeze(1)))
        skips = self.stack(x, step_embedding=embedding)
        noise: Tensor = self.output(F.relu(self.hidden(skips)))
        return noise.squeeze(1)


def denoising_loss(model: nn.Module, waveform: Tensor) -> Tensor:
    """Return the mean squared error of the predicted noise after random steps (algorithm 1)."""
    step = torch.randint(len(BETAS), (len(waveform),))
    power, noise = SIGNAL_POWER[step].unsqueeze(1), torch.randn_like(waveform)
    return F.mse_loss(model(power.sqrt() * waveform + (1 - power).sqrt() * noise, step), noise)


@torch.no_grad()
def sample(model: nn.Module, batch_size: int, length: int) -> Tensor:
    """Return waveforms, `(batch_size, length)`, made from noise step by step (algorithm 2)."""
    x = torch.randn(batch_size, length)
    for step in reversed(range(len(BETAS))):
        beta, noise_power = BETAS[step], 1 - SIGNAL_POWER[step]
        x = x - beta / noise_power.sqrt() * model(x, torch.full((batch_size,), step))
        x = x / (1 - beta).sqrt()
        if step:
            variance = (1 - SIGNAL_POWER[step - 1]) / noise_power * beta
            x = x + variance.sqrt() * torch.randn_like(x)
    return x.clamp(-1, 1)


if __name__ == "__main__":
    model = DiffWave()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    loss = denoising_loss(model, torch.sin(0.1 * torch.arange(400)).expand(4, -1))
    loss.backward()
    optimizer.step()
    print(f"loss: {loss.item():.3f}")
    print(f"generated: {tuple(sample(model, 1, 400).shape)}")
