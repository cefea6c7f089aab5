"""Linear prediction from past samples, and a model whose density has it inside."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from tests.sampling.parity import assert_same_signal
from wavenet import WaveNet, make_sampler
from wavenet.config import (
    AudioConfig,
    FilterConfig,
    PredictorConfig,
    WaveNetConfig,
    check_conditioning,
)
from wavenet.derive import derive
from wavenet.kernels.cpu_predictors import cpu_past_coefficients
from wavenet.past_predictor import NOISE_VARIANCE, PastPredictor, past_coefficients
from wavenet.sampling import SamplerState
from wavenet.training.acceleration import accelerate, compile_nll
from wavenet.training.options import TrainerOptions
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError

SMALL = PredictorConfig(source="past", order=12, window_length=100, interval=7)
CONFIG = WaveNetConfig(
    output_distribution="gaussian_mixture",
    quantization_channels=65536,
    num_mixtures=1,
    input_type="mu-law",
    dilations=(1, 2, 4),
    residual_channels=8,
    gate_channels=8,
    skip_channels=8,
    head_channels=8,
    predictor=SMALL,
)


def tones(length: int, level: float = 0.3) -> Tensor:
    """Two resonant signals `(2, length)` in 16 bits, after 20 samples of silence."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(length).double()
    signal = torch.stack([torch.sin(0.2 * time) + torch.sin(0.5 * time), torch.sin(0.31 * time)])
    signal = level * (signal + 0.01 * torch.randn(2, length, generator=generator))
    signal[:, :20] = 0
    return ((signal * 2**15).round() / 2**15).clamp(-1, 1).float()


def signal_of(kind: str) -> Tensor:
    signals = {
        "tones": tones(300),
        "silence": torch.zeros(1, 300),
        "the largest constant": torch.full((1, 300), -1.0),
        "one step": (tones(300) > 0).float() / 2**15,
        "noise": torch.randint(-(2**15), 2**15, (3, 300)) / 2**15,
    }
    return signals[kind]


def untrained() -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(CONFIG).eval()


KINDS = ("tones", "silence", "the largest constant", "one step", "noise")
SIZES = [(1, 16, 1), (12, 100, 7), (32, 256, 16), (15, 17, 40)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("order", "length", "interval"), SIZES)
def test_compiled_and_single_windows_have_the_same_bits(
    order: int, length: int, interval: int, kind: str
) -> None:
    config = PredictorConfig(source="past", order=order, window_length=length, interval=interval)
    predictor, waveform = PastPredictor(config), signal_of(kind)
    padded = torch.nn.functional.pad(waveform, (length, 0))[:, :-1]
    count = -(-waveform.shape[1] // interval)

    rows = past_coefficients(predictor, padded, count)

    assert bool(rows.isfinite().all())
    assert float(rows[..., -1].min()) > 1e-6
    assert torch.equal(cpu_past_coefficients(predictor, padded, count), rows)
    for block in range(0, count, 5):
        window = padded[:, block * interval : block * interval + length]
        for compute in (past_coefficients, cpu_past_coefficients):
            assert torch.equal(compute(predictor, window, 1)[:, 0], rows[:, block])


def test_coefficients_solve_the_normal_equations_of_the_window() -> None:
    predictor, waveform = PastPredictor(SMALL), tones(200)

    row = predictor(waveform)[0, :, 147].double().numpy()

    weights = predictor.weights.double()
    window = (waveform[0, 47:147].double() * weights).numpy()
    r = np.correlate(window, window, "full")[99:112] / float(weights.square().sum())
    r *= np.exp(-0.5 * (np.pi * np.arange(13) / 100) ** 2)
    r[0] = r[0] * (1 + 1e-6) + NOISE_VARIANCE
    expected = linalg.solve_toeplitz(r[:-1], r[1:])
    np.testing.assert_allclose(row[:-1][::-1], expected, atol=1e-5)
    np.testing.assert_allclose(row[-1] ** 2, r[0] - expected @ r[1:], rtol=1e-4)


def test_the_past_predicts_tones_well() -> None:
    predictor, waveform = PastPredictor(SMALL), tones(2000)

    error = waveform - predictor.predict(waveform, predictor(waveform))

    gain_db = 10 * torch.log10(waveform.square().mean() / error.square().mean())
    assert gain_db > 15


def test_coefficients_are_those_of_earlier_samples() -> None:
    predictor, waveform = PastPredictor(SMALL), tones(300)
    changed = waveform.clone()
    changed[:, 150] += 0.1

    differs = (predictor(waveform) != predictor(changed)).any(dim=1).any(dim=0).nonzero().flatten()

    assert differs.min() == 154  # the first multiple of 7 after sample 150
    assert differs.max() == 251  # the last window with it is that of the block from 245 on


def test_step_and_prefill_have_the_predictions_of_forward() -> None:
    model, waveform = untrained(), tones(200)
    expected = model(waveform)
    state, before = model.new_state(2), torch.zeros(2)

    for t in range(200):
        params = model.step(before, state)
        torch.testing.assert_close(params, expected[..., t], rtol=0, atol=1e-4)
        before = waveform[:, t]
        if t + 1 in (1, 6, 7, 8, 100, 154, 200):
            prefilled = model.new_state(2)
            model.prefill(prefilled, waveform[:, : t + 1])
            assert torch.equal(prefilled.queues[-1], state.queues[-1])


def test_params_depend_on_the_receptive_field_only() -> None:
    model = untrained()
    field, waveform = model.config.receptive_field, tones(400)
    assert field == 1 + 7 + 100 + 7 - 1
    t = 7 * 40 + 6  # the last sample of a block

    def params_at(changed: int) -> Tensor:
        x = waveform.clone()
        x[:, changed] += 0.25
        found: Tensor = model(x)[..., t]
        return found

    expected = model(waveform)[..., t]
    assert torch.equal(params_at(t), expected)
    assert torch.equal(params_at(t - field - 1), expected)
    assert not torch.equal(params_at(t - 1), expected)


def test_gradients_reach_the_weights_through_the_density_alone() -> None:
    model, waveform = untrained(), tones(200).requires_grad_()

    model.nll(waveform).mean().backward()

    assert all(weight.grad is not None for weight in model.parameters())
    assert model.predictor is not None
    assert not model.predictor(waveform).requires_grad


def test_pieces_batches_threads_and_saved_states_change_no_bit(tmp_path: Path) -> None:
    model, prompt = untrained(), tones(150)
    cpu = make_sampler(model, "cpu")

    signal = cpu.generate(120, batch_size=2, prompt=prompt, seed=3)

    assert 1e-3 < float(signal.std()) < 0.9
    pieces = cpu.stream(120, chunk=11, batch_size=2, prompt=prompt, seed=3)
    assert torch.equal(torch.cat(list(pieces), dim=1), signal)
    assert torch.equal(cpu.generate(120, prompt=prompt[1:], seed=4), signal[1:])
    threads = make_sampler(model, "cpu", num_threads=2)
    assert torch.equal(threads.generate(120, prompt=prompt[1:], seed=4), signal[1:])
    state, parts = cpu.init_state(2, prompt, seed=3), []
    for _ in range(6):  # each goes on in the middle of a block
        parts.append(cpu.generate_next(state, 20))
        state.save(tmp_path / "state")
        state = SamplerState.load(tmp_path / "state")
    assert torch.equal(torch.cat(parts, dim=1), signal)


@pytest.mark.parametrize("name", ["reference", "graph"])
def test_a_state_moves_between_backends_without_loss(name: str) -> None:
    model, prompt = untrained(), tones(150)
    cpu, other = make_sampler(model, "cpu"), make_sampler(model, name)

    for length in (1, 7, 100, 115, 149):
        start = prompt[:, :length]
        state, its_state = cpu.init_state(2, start), other.init_state(2, start)
        expected = its_state.model.to_wavenet_state().queues[-1]
        assert torch.equal(state.model.to_wavenet_state().queues[-1], expected)
        for _ in range(2):
            other.generate_next(state, 0)
            assert torch.equal(state.model.to_wavenet_state().queues[-1], expected)
            cpu.generate_next(state, 0)


@pytest.mark.parametrize("name", ["cpu", "graph"])
@pytest.mark.parametrize("length", [1, 100, 149])
def test_every_backend_draws_the_reference_signal(name: str, length: int) -> None:
    model, prompt = untrained(), tones(150)[:1, 150 - length :]

    assert_same_signal(make_sampler(model, name), make_sampler(model, "reference"), 60, prompt)


def test_a_predictor_from_the_past_saves_bits() -> None:
    torch.manual_seed(0)
    waveform = tones(2000)

    plain = WaveNet(dataclasses.replace(CONFIG, predictor=None)).nll(waveform).detach()
    predicted = WaveNet(CONFIG).nll(waveform).detach()

    assert float(predicted[:, 200:].mean()) < float(plain[:, 200:].mean()) - 1


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler accesses it
@pytest.mark.slow
def test_torch_compile_leaves_the_coefficients_to_numba() -> None:
    model, waveform = untrained(), tones(100)
    expected = model.nll(waveform)
    accelerate(model, TrainerOptions())

    compile_nll(model)
    compiled: Any = torch.compile(model.nll, backend="eager")

    torch.testing.assert_close(compiled(waveform), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_dtype_keeps_its_constants(dtype: torch.dtype) -> None:
    model = WaveNet(CONFIG).to(dtype)

    assert isinstance(model.predictor, PastPredictor)
    assert model.predictor.factors.dtype == torch.float64
    assert model.predictor.weights.dtype == torch.int64
    assert model(tones(100)).isfinite().all()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"order": 16, "window_length": 16}, r"predictor\.order must be under 16"),
    ({"subframes": 2}, r"predictor\.subframes must be 4"),
    ({"source": "mel"}, r"predictor\.mel is missing"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=["order", "subframes", "no mel"])
def test_a_wrong_predictor_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PredictorConfig(**{"source": "past", **options})


def test_a_model_without_mel_may_have_it_and_filters() -> None:
    check_conditioning(CONFIG, AudioConfig(filter=FilterConfig(pre_emphasis=0.5)))
    assert from_dict(WaveNetConfig, to_dict(CONFIG)) == CONFIG
    plain = derive({"audio": {}, "model": {"predictor": {"source": "past", "order": 16}}})
    assert plain["model"]["predictor"] == {"source": "past", "order": 16}
    with pytest.raises(ConfigError, match="source=past"):
        derive({"audio": {}, "model": {"predictor": {"order": 16}}})


def test_the_queue_is_float32_whatever_the_default() -> None:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        queue = PastPredictor(SMALL).new_queue(1)
    finally:
        torch.set_default_dtype(default)

    assert queue.dtype == torch.float32
