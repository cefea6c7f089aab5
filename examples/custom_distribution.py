"""Add an output distribution: a mixture of Laplace densities over 16-bit codes.

`@register` makes it available as `output_distribution` in configs, model directories and recipes
that import this file. Training and the reference sampler need nothing else; the compiled CPU
sampler refuses it by name, because it has no compiled draw.
"""

import math

import torch
from torch import Tensor

from wavenet import WaveNet, WaveNetConfig, make_sampler
from wavenet.distributions import Mixture, register
from wavenet.utils.errors import ConfigError


@register
class LaplaceMixture(Mixture):
    """Discretized mixture of Laplace densities; `Mixture` says what the methods return."""

    name = "laplace_mixture"

    def log_mass(self, m: Tensor, d: Tensor) -> Tensor:
        m = m.abs()
        beside_mean = d + torch.log1p(-torch.exp(-2 * d)) - math.log(2) - m
        around_mean = torch.log1p(-torch.exp(-d) * torch.cosh(torch.minimum(m, d)))
        return torch.where(m < d, around_mean, beside_mean)

    def log_below(self, x: Tensor) -> Tensor:
        right = torch.log1p(-0.5 * torch.exp(-x.clamp(min=0)))
        return torch.where(x < 0, x - math.log(2), right)

    def quantile(self, uniform: Tensor) -> Tensor:
        tail = torch.log(2 * torch.minimum(uniform, 1 - uniform))
        return torch.where(uniform < 0.5, tail, -tail)


def main() -> None:
    """Train one step on noise, generate with the reference sampler, and show what refuses."""
    torch.manual_seed(0)
    model = WaveNet(
        WaveNetConfig(
            output_distribution="laplace_mixture",
            quantization_channels=65536,
            num_mixtures=3,
            input_type="scalar",
            dilations=(1, 2, 4),
            residual_channels=16,
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    loss = model.nll(2 * torch.rand(2, 160) - 1).mean()
    loss.backward()
    optimizer.step()
    print(f"loss: {loss.item() / math.log(2):.3f} bits per sample")

    signal = make_sampler(model, "reference").generate(64, seed=1)
    print(f"generated: {tuple(signal.shape)}")
    try:
        make_sampler(model, "cpu")
    except ConfigError as error:
        print(f"cpu refuses: {error}")


if __name__ == "__main__":
    main()
