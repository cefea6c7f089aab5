import pytest
import torch
from torch import nn

from wavenet.benchmarks.training_baseline import BaselineWaveNet
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_baseline_with_the_same_weights_gives_the_same_nll(kernel_size: int) -> None:
    config = WaveNetConfig(
        quantization_channels=16,
        dilations=(1, 2, 4),
        kernel_size=kernel_size,
        residual_channels=4,
        gate_channels=6,
        skip_channels=5,
        head_channels=7,
    )
    model, baseline = WaveNet(config).double(), BaselineWaveNet(config).double()
    with torch.no_grad():
        assert isinstance(model.input.bias, nn.Parameter)
        baseline.embedding.weight.copy_(model.input.weight[-1] + model.input.bias)
        weights = [p for name, p in model.named_parameters() if not name.startswith("input")]
        by_kind = {
            kind: [p for name, p in model.named_parameters() if kind in name]
            for kind in (".conv.", "residual_conv.", "skip_conv.", "head.")
        }
        own = {
            ".conv.": baseline.convs,
            "residual_conv.": baseline.residuals,
            "skip_conv.": baseline.skips,
            "head.": baseline.head,
        }
        for kind, layers in own.items():
            for mine, its in zip(layers.parameters(), by_kind[kind], strict=True):
                mine.copy_(its)
    waveform = torch.rand(2, 30, dtype=torch.float64) * 2 - 1

    nll = baseline.nll(waveform)

    assert sum(map(len, by_kind.values())) == len(weights)
    torch.testing.assert_close(nll, model.nll(waveform).float(), rtol=1e-5, atol=1e-5)
