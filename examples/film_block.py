"""Change the residual block: conditioning by feature-wise scale and shift (FiLM) instead of a sum.

`ResidualBlock.activation` is what `forward`, `prefill` and `step` share, so overriding it is enough
for training and for generation. The stack then runs block by block instead of fused, the reference
sampler computes the changed model, and the compiled CPU sampler refuses it by name.

FiLM: Perez et al. 2018, arXiv:1709.07871.
"""

import torch
from torch import Tensor, nn

from wavenet import LocalConfig, WaveNet, WaveNetConfig, make_sampler
from wavenet.modules import ResidualBlock
from wavenet.utils.errors import ConfigError


class FilmBlock(ResidualBlock):
    """A residual block whose conditioning scales and shifts the input of the gate."""

    def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
        super().__init__(
            config.residual_channels,
            config.gate_channels,
            config.skip_channels,
            config.kernel_size,
            dilation,
            last=last,
        )
        channels = config.conditioning_channels, 2 * config.gate_channels
        self.conditioning_conv = nn.Conv1d(*channels, 1)

    def activation(self, y: Tensor, projected: Tensor | None) -> Tensor:
        assert projected is not None
        scale, shift = projected.chunk(2, dim=1)
        return super().activation(y * (1 + scale) + shift, None)


def build_model(config: WaveNetConfig) -> WaveNet:
    """Return a `WaveNet` with FiLM blocks."""
    model = WaveNet(config)
    last = len(config.dilations) - 1
    for index, dilation in enumerate(config.dilations):
        model.stack.blocks[index] = FilmBlock(config, dilation, last=index == last)
    return model


def main() -> None:
    """Train one step on noise, generate with the reference sampler, and show what refuses."""
    torch.manual_seed(0)
    local = LocalConfig(in_channels=8, channels=8, upsample_scales=(4, 4))
    model = build_model(WaveNetConfig(dilations=(1, 2, 4), residual_channels=16, local=local))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    waveform, frames = 2 * torch.rand(2, 160) - 1, torch.randn(2, 8, 10)

    loss = model.nll(waveform, local=frames).mean()
    loss.backward()
    optimizer.step()
    print(f"loss: {loss.item():.3f} nats per sample")

    signal = make_sampler(model, "reference").generate(64, seed=1, local=frames[:1])
    print(f"generated: {tuple(signal.shape)}")
    try:
        make_sampler(model, "cpu")
    except ConfigError as error:
        print(f"cpu refuses: {error}")


if __name__ == "__main__":
    main()
