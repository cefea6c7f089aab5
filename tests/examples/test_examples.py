"""Every example runs; what the examples add is right."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.distributions import SamplingConfig
from wavenet.model import shift_right

EXAMPLES = Path(__file__).parents[2] / "examples"
REFUSALS = {
    "film_block": "stack.blocks.0 is FilmBlock, not ResidualBlock",
    "custom_distribution": "LaplaceMixture has compiled_draw=None",
}


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_trains_generates_and_is_refused_by_cpu(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 80

    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)

    assert "per sample" in done.stdout
    assert "generated: (1, 64)" in done.stdout
    refusal = next(line for line in done.stdout.splitlines() if line.startswith("cpu refuses: "))
    assert REFUSALS[path.stem] in refusal
    assert "reference" in refusal


def test_film_blocks_step_as_they_forward() -> None:
    local = LocalConfig(in_channels=3, channels=4, upsample_scales=(2,))
    config = WaveNetConfig(dilations=(1, 2), residual_channels=4, gate_channels=6, local=local)
    model = load_example("film_block").build_model(config).double()
    waveform = 2 * torch.rand(1, 12, dtype=torch.float64) - 1
    frames = torch.randn(1, 3, 6, dtype=torch.float64)
    conditioning, state = model.compute_conditioning(1, 12, local=frames), model.new_state()
    model.prefill(state, waveform[:, :5], conditioning[..., :5])

    inputs = shift_right(waveform)
    stepped = [model.step(inputs[:, t], state, conditioning[..., t]) for t in range(5, 12)]

    expected = model(waveform, local=frames)[..., 5:]
    torch.testing.assert_close(torch.stack(stepped, dim=-1), expected)


def test_laplace_probabilities_sum_to_one_and_match_its_draws() -> None:
    distribution = load_example("custom_distribution").LaplaceMixture(1)
    codes = torch.arange(65536)
    every = distribution.decode(codes, torch.float64).unsqueeze(0)
    for log_scale in (-9.0, -3.0, 0.0):
        params = torch.tensor([0.1, log_scale], dtype=torch.float64)
        below = (-distribution.nll(params.view(1, 2, 1).expand(-1, -1, 65536), every)).exp()[0]
        noise = torch.rand(2000, 1, generator=torch.Generator().manual_seed(0))

        drawn = distribution.encode(
            distribution.sample(params.expand(2000, -1), noise, SamplingConfig())
        )

        assert below.sum() == pytest.approx(1.0, abs=1e-6)
        expected = below.cumsum(0)[drawn] - below[drawn] / 2
        assert (expected - noise[:, 0]).abs().max() < below.max() + 1e-3
