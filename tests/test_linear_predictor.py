"""Linear prediction from mel frames, and a model whose density has it inside."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from wavenet import WaveNet
from wavenet.config import (
    AudioConfig,
    F0Config,
    FilterConfig,
    LocalConfig,
    MelConfig,
    PredictorConfig,
    WaveNetConfig,
    check_conditioning,
)
from wavenet.derive import derive
from wavenet.features.mel import LogMel
from wavenet.kernels.predictor_coefficients import cpu_coefficients
from wavenet.linear_predictor import levinson, prediction_gain, rounded_rows
from wavenet.mel_predictor import MelPredictor, coefficients
from wavenet.presets import MEL_PRESETS
from wavenet.utils.errors import ConfigError

MEL = MelConfig(sample_rate=8000, n_fft=256, hop_length=40, win_length=200, n_mels=20, f_max=4000.0)
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
    local=LocalConfig(in_channels=20, channels=6, upsample_scales=(5, 8)),
    predictor=PredictorConfig(order=24, mel=MEL),
)


def voice(sample_rate: int, seconds: float = 0.5) -> Tensor:
    """A signal `(1, T)` with harmonics, resonances and a little noise, in 16 bits."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * math.pi * 120 * time + 2 * torch.sin(2 * math.pi * 3 * time)
    signal = torch.zeros_like(time)
    for harmonic in range(1, 30):
        level = 0.2 / (1 + ((120 * harmonic - 700) / 300) ** 2)
        signal += level * torch.sin(harmonic * phase)
    signal += 0.003 * torch.randn(len(time), generator=generator)
    return (signal[None] * 2**15).round() / 2**15


def quantized(length: int) -> Tensor:
    return torch.randint(-(2**15), 2**15, (2, length)) / 2**15


def frames_of(mel: MelConfig, kind: str) -> Tensor:
    """Frames, `(1, n_mels, 8)`, as a user may give them."""
    if kind == "a voice":
        mels: Tensor = LogMel(mel)(voice(mel.sample_rate))
        return mels[..., :8]
    shape = (1, mel.n_mels, 8)
    extremes = {"silence": -12.0, "enormous": 1e6, "nothing": -1e6}
    if kind in extremes:
        return torch.full(shape, extremes[kind])
    return 8 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_predictions_are_exact_in_any_order_of_summation() -> None:
    predictor = MelPredictor(PredictorConfig(order=24, mel=MEL))
    rows, waveform = predictor(frames_of(MEL, "noise"))[..., :200], quantized(200)[:1]

    found = predictor.predict(waveform, rows)

    past = torch.nn.functional.pad(waveform, (24, 0)).double().unfold(1, 24, 1)[:, :200]
    products = past * rows[:, :-1].transpose(1, 2).double()
    order = torch.randperm(24)
    assert torch.equal(found, products[..., order].cumsum(dim=-1)[..., -1].float())
    assert torch.equal(found, products.flip(-1).sum(dim=-1).float())


def test_levinson_solves_the_normal_equations() -> None:
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.rand(5, 65, dtype=torch.float64, generator=generator) + 0.01
    r = torch.fft.irfft(spectrum)[:, :31].contiguous()

    solved, error = levinson(r)

    for row, found, power in zip(r.numpy(), solved.flip(1), error, strict=True):
        expected = linalg.solve_toeplitz(row[:-1], row[1:])
        np.testing.assert_allclose(found, expected, atol=1e-9)
        np.testing.assert_allclose(power, row[0] - expected @ row[1:], rtol=1e-9)


@pytest.mark.parametrize("order", [1, 24, 64])
def test_the_gain_of_rounded_coefficients_is_that_of_their_signal(order: int) -> None:
    predictor = MelPredictor(PredictorConfig(order=order, mel=MEL))
    frames = torch.cat([frames_of(MEL, kind) for kind in ("a voice", "noise", "silence")], dim=-1)
    r = predictor.autocorrelation(frames.transpose(1, 2))[0]
    exact, error = levinson(r)

    gain = prediction_gain(rounded_rows(exact, error)[:, :-1])

    torch.testing.assert_close(gain, 10 * (r[:, 0] / error).log10(), rtol=0.01, atol=0.1)


@pytest.mark.parametrize("name", sorted(MEL_PRESETS))
def test_compiled_coefficients_equal_the_plain_ones(name: str) -> None:
    mel = MEL_PRESETS[name]
    predictor = MelPredictor(PredictorConfig(order=64, mel=mel))
    frames = LogMel(mel)(voice(mel.sample_rate)).transpose(1, 2)[:, :6].repeat(2, 1, 1)

    rows = coefficients(predictor, frames)
    compiled = cpu_coefficients(predictor, frames)

    torch.testing.assert_close(compiled[..., :-1], rows[..., :-1], rtol=0, atol=1e-4)
    torch.testing.assert_close(compiled[..., -1], rows[..., -1], rtol=1e-4, atol=0)
    some = cpu_coefficients(predictor, frames[1:, :3])
    assert torch.equal(some[0], compiled[1, : some.shape[1]])


@pytest.mark.parametrize("name", sorted(MEL_PRESETS))
def test_a_mel_predicts_its_signal_well(name: str) -> None:
    mel = MEL_PRESETS[name]
    waveform = voice(mel.sample_rate)
    predictor = MelPredictor(PredictorConfig(order=64, mel=mel))

    rows = predictor(LogMel(mel)(waveform))[..., : waveform.shape[1]]
    error = waveform - predictor.predict(waveform, rows)

    gain_db = 10 * torch.log10(waveform.square().mean() / error.square().mean())
    scale = (error.square().mean() / rows[:, -1].square().mean()).sqrt()
    assert gain_db > 12
    assert 0.2 < scale < 5


@pytest.mark.parametrize("kind", ["a voice", "silence", "enormous", "nothing", "noise"])
@pytest.mark.parametrize("name", ["8khz", "r9y9", "wavernn"])
def test_any_frames_give_a_stable_filter_of_a_sane_scale(name: str, kind: str) -> None:
    mel = MEL_PRESETS[name]
    predictor = MelPredictor(PredictorConfig(order=40, mel=mel))

    rows = predictor(frames_of(mel, kind))[0]

    assert bool(rows.isfinite().all())
    assert 2e-6 < float(rows[-1].min()) <= float(rows[-1].max()) <= 1
    for column in rows[:-1, :: mel.hop_length // 2].T.double().numpy():
        poles = np.roots(np.concatenate([[1.0], -column[::-1]]))
        assert np.abs(poles).max(initial=0) < 1.001


def test_coefficients_take_the_next_frame_and_no_more() -> None:
    predictor = MelPredictor(PredictorConfig(order=8, subframes=2, mel=MEL))
    frames = frames_of(MEL, "a voice")
    changed = frames.clone()
    changed[..., 4] += 0.5

    differs = (predictor(frames) != predictor(changed)).any(dim=1)[0].nonzero().flatten()

    assert differs.min() == 3 * 40
    assert differs.max() == 5 * 40 - 1


def test_the_receptive_field_includes_the_order() -> None:
    torch.manual_seed(0)
    model = WaveNet(dataclasses.replace(CONFIG, skip_channels=64, head_channels=64)).eval()
    field, frames = model.config.receptive_field, LogMel(MEL)(voice(8000))[..., :4]
    waveform = voice(8000)[:, :160]

    def params_at(t: int, changed: int | None) -> Tensor:
        x = waveform.clone()
        if changed is not None:
            x[:, changed] += 0.25
        found: Tensor = model(x, local=frames)[..., t]
        return found

    t = field + 20
    assert torch.equal(params_at(t, t - field - 1), params_at(t, None))
    assert not torch.equal(params_at(t, t - 24), params_at(t, None))
    assert torch.equal(params_at(t, t), params_at(t, None))


def test_nll_is_that_of_the_shifted_density() -> None:
    torch.manual_seed(0)
    for kind, mixtures in (("gaussian_mixture", 1), ("logistic_mixture", 3)):
        config = dataclasses.replace(CONFIG, output_distribution=kind, num_mixtures=mixtures)
        model = WaveNet(config).eval()
        waveform = voice(8000)[:, :160]
        frames = LogMel(MEL)(waveform)
        predictor = model.mel_predictor
        assert predictor is not None
        rows = predictor(frames)[..., :160]

        params = model(waveform, local=frames).detach()

        *_, means, log_scales = torch.split(params, mixtures, dim=1)
        own_means = (means - predictor.predict(waveform, rows)) / rows[:, -1]
        assert float(own_means.abs().max()) < 5  # the network's unit is the scale of the residual
        assert float((log_scales - rows[:, -1].log()).abs().max()) < 5
        nats = model.nll(waveform, local=frames).detach()
        torch.testing.assert_close(nats, model.distribution.nll(params, waveform))


def test_an_untrained_model_is_far_better_than_one_without() -> None:
    torch.manual_seed(0)
    waveform = voice(8000)
    frames = LogMel(MEL)(waveform)

    bits = {
        name: float(WaveNet(config).nll(waveform, local=frames).mean().detach()) / math.log(2)
        for name, config in (
            ("with", CONFIG),
            ("without", dataclasses.replace(CONFIG, predictor=None)),
        )
    }

    assert bits["with"] < bits["without"] - 2


def test_gradients_reach_the_weights_through_the_density_alone() -> None:
    model = WaveNet(CONFIG)
    frames = LogMel(MEL)(voice(8000)).requires_grad_()

    model.nll(voice(8000), local=frames).mean().backward()

    assert all(weight.grad is not None for weight in model.parameters())
    rows = model.compute_conditioning(1, 100, local=frames)
    assert rows is not None
    assert rows[:, : model.config.receptive_field].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_dtype_keeps_its_constants(dtype: torch.dtype) -> None:
    model = WaveNet(CONFIG)
    assert model.mel_predictor is not None
    expected = model.mel_predictor.cosines

    model.to(dtype)

    assert torch.equal(model.mel_predictor.cosines, expected)
    assert model(voice(8000), local=LogMel(MEL)(voice(8000))).isfinite().all()


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"output_distribution": "categorical"}, "output_distribution must be"),
    ({"local": None}, r"no model\.local"),
    ({"local": LocalConfig(in_channels=8, upsample_scales=(40,))}, r"local\.in_channels"),
    ({"local": LocalConfig(in_channels=20, upsample_scales=(50,))}, "upsample_scales"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES, ids=["classes", "none", "bands", "hop"])
def test_a_config_that_cannot_predict_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"order": 128}, "under 128"), ({"order": 8, "subframes": 50}, "40 at most")],
)
def test_a_predictor_beyond_its_frame_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PredictorConfig(mel=MEL, **options)


def test_audio_that_the_frames_do_not_describe_is_refused() -> None:
    good = AudioConfig(sample_rate=8000, mel=MEL)
    check_conditioning(CONFIG, good)
    other = dataclasses.replace(MEL, f_max=3000.0)
    with pytest.raises(ConfigError, match=r"must be audio\.mel"):
        check_conditioning(CONFIG, dataclasses.replace(good, mel=other))
    filtered = dataclasses.replace(good, filter=FilterConfig(pre_emphasis=0.5))
    with pytest.raises(ConfigError, match=r"audio\.filter must be off"):
        check_conditioning(CONFIG, filtered)
    local = dataclasses.replace(CONFIG.local or LocalConfig(), in_channels=20)
    f0 = AudioConfig(sample_rate=8000, f0=F0Config(sample_rate=8000, hop_length=40))
    with pytest.raises(ConfigError):
        check_conditioning(dataclasses.replace(CONFIG, local=local), f0)
    with pytest.raises(ConfigError, match=r"needs audio\.mel"):
        derive({"audio": {"sample_rate": 8000}, "model": {"predictor": {"order": 8}}})
