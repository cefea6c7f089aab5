"""Every example runs; what the examples add is right."""

import importlib.util
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from wavenet.config import OUTPUT_DISTRIBUTIONS, LocalConfig, WaveNetConfig
from wavenet.distributions import DISTRIBUTIONS, SamplingConfig
from wavenet.modules.compat import WN, load_weights
from wavenet.waveform import shift_right

EXAMPLES = Path(__file__).parents[2] / "examples"
GENERATED = r"generated: \(1, 64\)"
ARGUMENTS = {"denoiser": ["2"], "tcn_classifier": ["2", "20"]}  # steps, and a length
OUTPUTS = {
    "custom_distribution": (
        r"loss: \S+ bits per sample",
        GENERATED,
        "cpu refuses: .*LaplaceMixture has compiled_draw=None.*reference",
    ),
    "denoiser": (r"loss \d", r"SNR: [45]\.\d dB, denoised \S+ dB, gain \S+ dB"),
    "diffwave_denoiser": (r"loss: \d", r"generated: \(1, 400\)"),
    "quickstart": (
        r"generated: 1\.0 seconds",
        "streamed: 5 chunks, equal to generate: True",
        "cpu refuses: .*stack.blocks.0 has gate.*reference",
        r"swapped: \(1, 400\)",
    ),
    "film_block": (
        r"loss: \S+ nats per sample",
        GENERATED,
        "cpu refuses: .*stack.blocks.0 is FilmBlock, not ResidualBlock.*reference",
    ),
    "tcn_classifier": (r"loss 1\.", r"accuracy: \S+%"),
    "vits_wn": (
        r"difference from VITS's formula: \S+e-0[67]",
        r"loss: \S+, then \d",
        "difference without weight norm: 0.0",
    ),
}


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def without_new_distributions() -> Iterator[None]:
    """Forget what an example registers: each test may load it."""
    known, sizes = dict(DISTRIBUTIONS), dict(OUTPUT_DISTRIBUTIONS)
    yield
    DISTRIBUTIONS.clear()
    DISTRIBUTIONS.update(known)
    OUTPUT_DISTRIBUTIONS.clear()
    OUTPUT_DISTRIBUTIONS.update(sizes)


def run_example(path: Path, *arguments: str) -> None:
    """Run an example as a script would, in this process."""
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`run_example`, with no window for a chart, and `sys.argv` put back after."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(sys, "argv", sys.argv)
    return run_example


@pytest.mark.slow
@pytest.mark.filterwarnings("default:__array__ implementation:DeprecationWarning")  # of matplotlib
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_runs_and_prints_its_results(
    path: Path, script: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(path.read_text().splitlines()) <= 80

    script(path, *ARGUMENTS.get(path.stem, []))

    printed = capsys.readouterr().out
    for pattern in OUTPUTS[path.stem]:
        assert re.search(pattern, printed), printed


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_an_example_with_arguments_explains_them(
    name: str, script: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    path, codes = EXAMPLES / f"{name}.py", []

    for word in ("--help", "many"):
        with pytest.raises(SystemExit) as end:
            script(path, word)
        codes.append(end.value.code)

    printed = capsys.readouterr()
    assert codes == [0, 2]
    assert "300 if absent" in printed.out
    assert "argument steps: invalid int value: 'many'" in printed.err


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


def test_diffwave_sampling_ends_at_the_signal_if_the_noise_is_known() -> None:
    example = load_example("diffwave_denoiser")
    signal = torch.sin(0.3 * torch.arange(30)).expand(2, -1)

    def true_noise(x: Tensor, step: Tensor) -> Tensor:
        power = example.SIGNAL_POWER[step].unsqueeze(1)
        noise: Tensor = (x - power.sqrt() * signal) / (1 - power).sqrt()
        return noise

    torch.testing.assert_close(example.sample(true_noise, 2, 30), signal, rtol=0, atol=1e-4)
    assert example.denoising_loss(true_noise, signal) < 1e-6


def test_diffwave_sees_both_sides_and_the_diffusion_step() -> None:
    model = load_example("diffwave_denoiser").DiffWave()
    x = torch.randn(1, 80, requires_grad=True)

    (gradient,) = torch.autograd.grad(model(x, torch.tensor([3]))[0, 40], x)

    reached = gradient[0].nonzero().flatten()
    assert reached[[0, -1]].tolist() == [40 - 30, 40 + 30]  # two cycles of 1, 2, 4, 8
    assert not torch.allclose(model(x, torch.tensor([3])), model(x, torch.tensor([40])))


def test_vits_formula_is_computed_by_the_module_that_takes_its_place() -> None:
    example = load_example("vits_wn")
    checkpoint = {name: w.double() for name, w in example.make_checkpoint().items()}
    wn = WN(example.HIDDEN, 5, 1, example.LAYERS, gin_channels=example.SPEAKER).double()
    load_weights(wn, checkpoint, prefix="enc_q.enc.")
    x, mask = torch.randn(2, example.HIDDEN, 30).double(), torch.ones(2, 1, 30).double()
    mask[1, :, 20:] = 0
    g = torch.randn(2, example.SPEAKER, 1).double()

    expected = example.formula(checkpoint, x, mask, g)

    torch.testing.assert_close(wn(x, mask, g), expected, rtol=0, atol=1e-12)


def test_classes_of_the_temporal_order_task_are_where_x_and_y_stand() -> None:
    x, classes = load_example("tcn_classifier").draw_batch(50, 30)

    marks = [sequence[4:].argmax(dim=0)[sequence[4:].any(dim=0)] for sequence in x]
    assert [int(2 * first + second) for first, second in marks] == classes.tolist()


def test_the_tcn_depends_on_its_first_symbol() -> None:
    model = load_example("tcn_classifier").TCN(60).eval()
    x = torch.rand(1, 6, 60, requires_grad=True)

    model(x).sum().backward()

    assert x.grad is not None
    assert x.grad[..., 0].any()


def test_the_denoisers_snr_is_of_powers() -> None:
    clean, noise = torch.tensor([3.0, -3.0]), torch.tensor([0.3, 0.3])

    assert load_example("denoiser").snr_db(clean, clean + noise) == pytest.approx(20.0, abs=1e-4)
