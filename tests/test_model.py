import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.architectures import (
    SMALL,
    conditions_for,
    configs,
    local_configs,
    num_examples,
    raise_above_relu,
)
from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.model import WaveNet, WaveNetState
from wavenet.modules import GlobalConditioner, Head, LocalConditioner
from wavenet.modules.upsampling import UPSAMPLERS
from wavenet.pretrained import load
from wavenet.waveform import shift_right


def step_over(
    model: WaveNet, state: WaveNetState, seen: Tensor, conditioning: Tensor | None = None
) -> Tensor:
    """Parameters after each sample of `inputs`, `(B, P, T)`."""
    samples = seen.unbind(dim=1)
    conditions = [None] * len(samples) if conditioning is None else conditioning.unbind(dim=2)
    pairs = zip(samples, conditions, strict=True)
    return torch.stack([model.step(sample, state, now) for sample, now in pairs], dim=-1)


@settings(max_examples=num_examples(30))
@given(config=configs(), batch_size=st.integers(1, 4), data=st.data(), wide=st.booleans())
def test_step_equals_forward_at_every_sample_after_any_prompt(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, wide: bool
) -> None:
    dtype, tolerance = (torch.float64, 1e-10) if wide else (torch.float32, 1e-4)
    prompt_length = data.draw(st.integers(0, 2 * config.receptive_field))
    model = WaveNet(config).to(dtype)
    length = prompt_length + config.receptive_field + 3
    waveform = torch.rand(batch_size, length, dtype=dtype) * 2 - 1
    inputs = conditions_for(config, batch_size, length, dtype)
    conditioning = model.compute_conditioning(batch_size, length, **inputs)
    before, after = (
        (None, None)
        if conditioning is None
        else conditioning.split([prompt_length, length - prompt_length], dim=2)
    )
    state = model.new_state(batch_size)
    if prompt_length:
        model.prefill(state, waveform[:, :prompt_length], before)

    with torch.no_grad():
        stepped = step_over(model, state, shift_right(waveform)[:, prompt_length:], after)
        expected = model(waveform, **inputs)[..., prompt_length:]

    torch.testing.assert_close(stepped, expected, rtol=0, atol=tolerance)
    assert state.position == waveform.shape[1]


@pytest.mark.parametrize("shape", [(2, 1), (1,), ()])
def test_step_refuses_a_sample_of_another_shape(shape: tuple[int, ...]) -> None:
    model = WaveNet(SMALL)

    with pytest.raises(ValueError, match=r"^sample must be \(2,\), one value per item"):
        model.step(torch.zeros(shape), model.new_state(2))


def test_step_refuses_the_state_of_another_model() -> None:
    model, other = WaveNet(SMALL), WaveNet(dataclasses.replace(SMALL, dilations=(1,)))

    with pytest.raises(ValueError, match="^queues must be those of"):
        model.step(torch.zeros(1), other.new_state(1))


@pytest.mark.parametrize("name", ["demo_voice", "piano"])  # with a predictor from the mel, without
def test_step_refuses_conditioning_with_a_time_axis(name: str) -> None:
    model = load(name).model
    assert model.config.local is not None
    frames = torch.zeros(2, model.config.local.in_channels, 1)
    conditioning = model.compute_conditioning(2, 1, local=frames)

    with pytest.raises(ValueError, match=r"^conditioning must be \(2, \d+\), got \(2, \d+, 1\)"):
        model.step(torch.zeros(2), model.new_state(2), conditioning)


@settings(max_examples=num_examples(30, 60))
@given(config=configs(input_type="scalar", quantization_channels=65536, predictor=None))
def test_parameters_depend_on_the_receptive_field_only(config: WaveNetConfig) -> None:
    model = WaveNet(config).double()
    field = config.receptive_field
    t = field + 5
    waveform = torch.rand(1, t + 4, dtype=torch.float64) * 2 - 1
    seen = torch.zeros(waveform.shape[1], dtype=torch.float64)

    # Quantization has no gradient: start at the input of the first convolution.
    x = shift_right(waveform).unsqueeze(1).requires_grad_()
    model.head(unconditioned(model, x))[0, :, t].abs().sum().backward()
    assert x.grad is not None
    seen[:-1] = x.grad[0, 0, 1:]  # the input is delayed by one sample

    assert not seen[t:].any(), "sees the present or the future"
    assert not seen[: t - field].any(), "sees further back than it says"
    reached = {t - 1 - lag for lag in reach(config)}
    assert set(seen.nonzero().flatten().tolist()) <= reached
    if alive(model, x, t):
        assert seen[t - field] != 0, "does not see as far back as it says"


def unconditioned(model: WaveNet, x: torch.Tensor) -> torch.Tensor:
    """Sum of the skips where the conditioning, if there is one, is zero."""
    width = model.config.conditioning_channels
    conditioning = x.new_zeros(len(x), width, x.shape[2]) if width else None
    skips: torch.Tensor = model.stack(model.input(x), conditioning)
    return skips


def reach(config: WaveNetConfig) -> set[int]:
    """Lags of the input samples that the taps of a model reach."""
    lags = set(range(config.input_kernel_size))
    for dilation in config.dilations:
        lags = {lag + tap * dilation for lag in lags for tap in range(config.kernel_size)} | lags
    return lags


def alive(model: WaveNet, x: torch.Tensor, t: int) -> bool:
    """Whether every unit of the head lets gradients through at sample `t` of an input `x`."""
    with torch.no_grad():
        skips = unconditioned(model, x)[..., t : t + 1]
        hidden = model.head.hidden(skips.relu())
    return bool((skips > 0).all()) and bool((hidden > 0).all())


def test_wide_model_depends_on_its_complete_receptive_field() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        SMALL, input_type="scalar", input_kernel_size=3, kernel_size=3, skip_channels=64
    )
    config = dataclasses.replace(config, head_channels=64, residual_channels=32, gate_channels=32)
    model = WaveNet(config).double()
    t = config.receptive_field + 5
    x = torch.rand(1, 1, t + 4, dtype=torch.float64, requires_grad=True)

    model.head(model.stack(model.input(x)))[0, :, t].sum().backward()

    assert x.grad is not None
    seen = x.grad[0, 0].nonzero().flatten()
    assert seen.min() == t - config.receptive_field + 1
    assert seen.max() == t


@given(t=st.integers(0, 29))
@settings(max_examples=num_examples(15, 30))
def test_a_changed_sample_changes_only_later_parameters(t: int) -> None:
    torch.manual_seed(0)  # a head as narrow as this may be dead
    model = WaveNet(dataclasses.replace(SMALL, skip_channels=32, head_channels=32))
    waveform = torch.rand(1, 30) * 2 - 1
    other = waveform.clone()
    other[0, t] = -other[0, t].sign()

    with torch.no_grad():
        difference = (model(waveform) - model(other)).abs().sum(dim=1)[0]

    assert not difference[: t + 1].any()
    assert t == 29 or difference[t + 1] > 0


def test_the_first_sample_follows_silence() -> None:
    model = WaveNet(SMALL)

    stepped = model.step(torch.zeros(1), model.new_state())

    torch.testing.assert_close(stepped, model(torch.rand(1, 1))[..., 0])


def test_nll_is_the_cross_entropy_of_the_classes() -> None:
    model = WaveNet(SMALL)
    waveform = torch.rand(2, 20) * 2 - 1

    nll = model.nll(waveform)

    log_probabilities = model(waveform).log_softmax(dim=1)
    classes = model.distribution.encode(waveform).unsqueeze(1)
    torch.testing.assert_close(nll, -log_probabilities.gather(1, classes)[:, 0])


def test_every_weight_has_a_gradient() -> None:
    torch.manual_seed(0)
    local = LocalConfig(
        in_channels=2, upsample_scales=(4, 2), lookahead=1, context_dilations=(1, 2)
    )
    wide = dataclasses.replace(SMALL, skip_channels=32, head_channels=32, local=local)
    config = dataclasses.replace(
        wide, num_speakers=2, global_in_channels=3, conditioning_dropout=0.5
    )
    model = WaveNet(config)
    conditions = conditions_for(config, 30, 60)
    conditions["speaker"][:2] = torch.tensor([0, 1])

    model.nll(torch.rand(30, 60) * 2 - 1, **conditions).mean().backward()

    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@settings(max_examples=num_examples(15, 30))
@given(config=configs())
def test_gradients_share_no_memory(config: WaveNetConfig) -> None:
    model = WaveNet(config)
    waveform = torch.rand(2, 20) * 2 - 1
    model.nll(waveform, **conditions_for(config, 2, 20)).mean().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    before = [gradient.clone() for gradient in gradients]

    for gradient in gradients:
        gradient += 1

    for gradient, one in zip(gradients, before, strict=True):
        torch.testing.assert_close(gradient, one + 1, rtol=0, atol=0)


def test_a_cloned_state_is_independent() -> None:
    model = WaveNet(SMALL)
    state = model.new_state()
    model.step(torch.ones(1), state)
    clone = state.clone()
    expected = model.step(torch.ones(1), clone)

    model.step(-torch.ones(1), state)
    model.step(-torch.ones(1), state)
    again = state.clone()

    assert clone.position == 2
    assert again.position == 3
    fresh = model.new_state()
    model.step(torch.ones(1), fresh)
    torch.testing.assert_close(model.step(torch.ones(1), fresh), expected)


def test_prefill_applies_no_dropout() -> None:
    model = WaveNet(dataclasses.replace(SMALL, dropout=0.5)).train()
    prompt = torch.rand(1, 20) * 2 - 1
    filled, stepped = model.new_state(), model.new_state()

    model.prefill(filled, prompt)
    step_over(model, stepped, shift_right(prompt))

    for one, other in zip(filled.queues, stepped.queues, strict=True):
        torch.testing.assert_close(one, other)


def test_prefill_refuses_a_state_that_is_not_fresh() -> None:
    model = WaveNet(SMALL)
    state = model.new_state()
    model.step(torch.zeros(1), state)

    with pytest.raises(ValueError, match="position 1"):
        model.prefill(state, torch.zeros(1, 5))


def test_a_model_overfits_one_short_signal() -> None:
    torch.manual_seed(0)
    model = WaveNet(SMALL)
    waveform = torch.sin(torch.arange(200) * 0.3).unsqueeze(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    for _ in range(150):
        loss = model.nll(waveform).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert loss < 0.5 < model.config.quantization_channels**0.5  # a guess costs ln 16 = 2.77


@settings(max_examples=num_examples(20))
@given(local=local_configs(), frame=st.integers(0, 7), batch=st.booleans())
def test_a_frame_reaches_its_samples_lookahead_and_past_only(
    local: LocalConfig, frame: int, batch: bool
) -> None:
    config = dataclasses.replace(SMALL, local=local, skip_channels=32, head_channels=32)
    torch.manual_seed(0)
    model = WaveNet(config).double()
    conditioner = model.local_conditioner
    assert conditioner is not None
    raise_above_relu(conditioner)
    length = 8 * local.hop_length
    waveform = torch.rand(1 + batch, length, dtype=torch.float64) * 2 - 1
    frames = torch.randn(1 + batch, local.in_channels, 8, dtype=torch.float64)
    other = frames.clone()
    other[0, :, frame] += 1.0

    with torch.no_grad():
        changed = (model(waveform, local=frames) - model(waveform, local=other)).abs().sum(1)
        seen = (conditioner(frames) - conditioner(other)).abs().sum(1)

    first = max(0, (frame - conditioner.lookahead) * local.hop_length)
    assert not changed[0, :first].any(), "sees a frame before its time"
    assert not changed[1:].any(), "sees another item's frame"
    assert seen[0, first:].any(), "does not see a frame at its time"
    last = (frame + conditioner.past + 1) * local.hop_length
    if frame < 7:  # the last one goes on for ever
        assert not seen[0, last:].any(), "sees further back than it says"


def test_a_window_of_frames_gives_the_same_as_all_frames() -> None:
    for upsampling in UPSAMPLERS:
        layer = LocalConditioner(
            3, 4, (2, 3), upsampling, kernel_size=2, lookahead=1, context_dilations=(1, 2)
        )
        frames = torch.randn(2, 3, 30)

        window = layer.window(frames[..., 10 - layer.past : 15 + layer.lookahead])

        torch.testing.assert_close(window, layer(frames)[..., 10 * 6 : 15 * 6])


def test_every_speaker_and_the_null_speaker_differ() -> None:
    torch.manual_seed(0)
    model = WaveNet(dataclasses.replace(SMALL, num_speakers=2, skip_channels=32, head_channels=32))
    waveform = torch.rand(1, 20) * 2 - 1

    with torch.no_grad():
        voices = [model(waveform, speaker=torch.tensor([number])) for number in (0, 1, -1)]
        nobody = model(waveform)

    assert torch.equal(voices[2], nobody)
    assert not torch.equal(voices[0], voices[1])
    assert not torch.equal(voices[0], nobody)


def test_conditioning_dropout_acts_only_in_training() -> None:
    config = dataclasses.replace(
        SMALL, num_speakers=2, global_in_channels=3, conditioning_dropout=0.5
    )
    conditioning = WaveNet(config).global_conditioner
    assert conditioning is not None
    speaker, vector = torch.zeros(400, dtype=torch.int64), torch.ones(400, 3)

    with torch.no_grad():
        hidden = conditioning.train()(speaker, vector, 400).unique(dim=0)
        shown = conditioning.eval()(speaker, vector, 400).unique(dim=0)

    assert len(hidden) == 2
    assert len(shown) == 1


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "needs local=, frames of 2 channels"),
        ({"local": torch.zeros(1, 3, 9)}, r"must be \(1, 2, F\)"),
        ({"local": torch.zeros(1, 2, 3)}, "3 frames of 4 samples, the waveform 20"),
        ({"local": torch.zeros(1, 2, 5), "speaker": torch.tensor([2])}, "speakers are 0 to 1"),
        ({"local": torch.zeros(1, 2, 5), "speaker": torch.tensor([0, 1])}, r"must be \(1,\)"),
        ({"local": torch.zeros(1, 2, 5), "speaker": torch.tensor([1.0])}, "must be integers"),
        ({"local": torch.zeros(1, 2, 5), "vector": torch.zeros(1, 2)}, "takes no vectors"),
    ],
)
def test_wrong_conditioning_is_refused(conditions: dict[str, Tensor], message: str) -> None:
    local = LocalConfig(in_channels=2, upsample_scales=(4,))
    model = WaveNet(dataclasses.replace(SMALL, local=local, num_speakers=2))

    with pytest.raises(ValueError, match=message):
        model(torch.zeros(1, 20), **conditions)


def test_a_model_without_conditioning_refuses_any() -> None:
    model = WaveNet(SMALL)

    with pytest.raises(ValueError, match="no local conditioning"):
        model(torch.zeros(1, 20), local=torch.zeros(1, 2, 9))
    with pytest.raises(ValueError, match="no global conditioning"):
        model(torch.zeros(1, 20), speaker=torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(20), r"must be \(B, T\), got \(20,\): add a batch axis, waveform.unsqueeze"),
        (torch.zeros(2, 1, 20), r"got \(2, 1, 20\): drop the channel axis, waveform.squeeze"),
        (torch.zeros(2, 2, 20), r"got \(2, 2, 20\): one channel"),
        (torch.zeros(2, 20, dtype=torch.int16), "got torch.int16: divide by 32768"),
        (torch.zeros(2, 20, dtype=torch.bool), "floating point, .* got torch.bool: convert it"),
    ],
)
def test_a_waveform_of_another_shape_or_type_is_refused(waveform: Tensor, message: str) -> None:
    model = WaveNet(SMALL)

    for call in (model, model.nll, lambda prompt: model.prefill(model.new_state(), prompt)):
        with pytest.raises(ValueError, match=message):
            call(waveform)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("with_array", [False, True])
def test_a_waveform_that_is_not_finite_is_refused_with_count_and_place(
    value: float, with_array: bool
) -> None:
    model, waveform = WaveNet(SMALL), torch.zeros(2, 20)
    waveform[1, [7, 9, 19]] = value
    words = f"got 3 of 40 samples that are NaN or infinity, the first {value} at sample 7 of item 1"

    for call in (model, model.nll):
        with pytest.raises(ValueError, match=words):
            call(waveform.numpy() if with_array else waveform)


def test_a_waveform_whose_sum_is_infinite_is_finite() -> None:
    waveform = torch.full((1, 20), 3e38)

    assert WaveNet(SMALL).nll(waveform).isfinite().all()


def test_conditioners_refuse_unknown_options_and_other_frames() -> None:
    with pytest.raises(ValueError, match="num_speakers or vector_channels must be positive"):
        GlobalConditioner(4)
    with pytest.raises(ValueError, match=r"must be nearest, centered, .*, repeat, got 'linear'"):
        LocalConditioner(3, 4, (2,), "linear")
    with pytest.raises(ValueError, match=r"^upsample_scales must be 1 or more, got \(2, 0\)"):
        LocalConditioner(3, 4, (2, 0))
    for frames in (torch.zeros(3, 9), torch.zeros(2, 4, 9)):
        with pytest.raises(ValueError, match=r"frames must be \(B, 3, F\), got"):
            LocalConditioner(3, 4, (2,))(frames)


def test_a_head_refuses_another_width() -> None:
    with pytest.raises(ValueError, match=r"the head's input must be \(B, 4, T\), got \(2, 5, 9\)"):
        Head(4, 3, 2)(torch.zeros(2, 5, 9))
