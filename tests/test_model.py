import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.architectures import SMALL, configs
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet, WaveNetState, delay


def step_over(model: WaveNet, state: WaveNetState, seen: Tensor) -> Tensor:
    """Parameters after each of the samples `seen`, `(B, P, T)`."""
    return torch.stack([model.step(sample, state) for sample in seen.unbind(dim=1)], dim=-1)


@settings(max_examples=500)
@given(config=configs(), batch_size=st.integers(1, 4), data=st.data(), wide=st.booleans())
def test_step_equals_forward_at_every_sample_after_any_prompt(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, wide: bool
) -> None:
    dtype, tolerance = (torch.float64, 1e-10) if wide else (torch.float32, 1e-4)
    prompt_length = data.draw(st.integers(0, 2 * config.receptive_field))
    model = WaveNet(config).to(dtype)
    waveform = (
        torch.rand(batch_size, prompt_length + config.receptive_field + 3, dtype=dtype) * 2 - 1
    )
    state = model.new_state(batch_size)
    if prompt_length:
        model.prefill(state, waveform[:, :prompt_length])

    with torch.no_grad():
        stepped = step_over(model, state, delay(waveform)[:, prompt_length:])
        expected = model(waveform)[..., prompt_length:]

    torch.testing.assert_close(stepped, expected, rtol=0, atol=tolerance)
    assert state.position == waveform.shape[1]


@settings(max_examples=60)
@given(config=configs(input="scalar", levels=65536))
def test_parameters_see_the_receptive_field_and_nothing_else(config: WaveNetConfig) -> None:
    model = WaveNet(config).double()
    field = config.receptive_field
    t = field + 5
    waveform = torch.rand(1, t + 4, dtype=torch.float64) * 2 - 1
    seen = torch.zeros(waveform.shape[1], dtype=torch.float64)

    # The quantisation has no gradient: look from the first convolution's input on.
    x = delay(waveform).unsqueeze(1).requires_grad_()
    model.head(model.stack(model.input(x)))[0, :, t].abs().sum().backward()
    assert x.grad is not None
    seen[:-1] = x.grad[0, 0, 1:]  # the input is one sample late

    assert not seen[t:].any(), "sees the present or the future"
    assert not seen[: t - field].any(), "sees further back than it says"
    reached = {t - 1 - lag for lag in reach(config)}
    assert set(seen.nonzero().flatten().tolist()) <= reached
    if alive(model, x, t):
        assert seen[t - field] != 0, "does not see as far back as it says"


def reach(config: WaveNetConfig) -> set[int]:
    """Lags of the input samples that the taps of a model reach."""
    lags = set(range(config.input_kernel_size))
    for dilation in config.dilations:
        lags = {lag + tap * dilation for lag in lags for tap in range(config.kernel_size)} | lags
    return lags


def alive(model: WaveNet, x: torch.Tensor, t: int) -> bool:
    """Whether every unit of the head lets gradients through at sample `t` of an input `x`."""
    with torch.no_grad():
        skips = model.stack(model.input(x))[..., t : t + 1]
        hidden = model.head.hidden(skips.relu())
    return bool((skips > 0).all()) and bool((hidden > 0).all())


def test_a_wide_model_sees_to_the_very_edge_of_its_receptive_field() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        SMALL, input="scalar", input_kernel_size=3, kernel_size=3, skip_channels=64
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
@settings(max_examples=30)
def test_a_changed_sample_changes_no_parameter_up_to_its_own(t: int) -> None:
    torch.manual_seed(0)  # a head as narrow as this may be dead
    model = WaveNet(dataclasses.replace(SMALL, skip_channels=32, head_channels=32))
    waveform = torch.rand(1, 30) * 2 - 1
    other = waveform.clone()
    other[0, t] = -other[0, t].sign()

    with torch.no_grad():
        difference = (model(waveform) - model(other)).abs().sum(dim=1)[0]

    assert not difference[: t + 1].any()
    assert t == 29 or difference[t + 1] > 0


def test_before_the_first_sample_there_is_silence() -> None:
    model = WaveNet(SMALL)

    stepped = model.step(torch.zeros(1), model.new_state())

    torch.testing.assert_close(stepped, model(torch.rand(1, 1))[..., 0])


def test_nll_is_the_cross_entropy_of_the_samples_classes() -> None:
    model = WaveNet(SMALL)
    waveform = torch.rand(2, 20) * 2 - 1

    nll = model.nll(waveform)

    log_probabilities = model(waveform).log_softmax(dim=1)
    classes = model.distribution.encode(waveform).unsqueeze(1)
    torch.testing.assert_close(nll, -log_probabilities.gather(1, classes)[:, 0])


def test_every_weight_has_a_gradient() -> None:
    torch.manual_seed(0)
    model = WaveNet(dataclasses.replace(SMALL, skip_channels=32, head_channels=32))

    model.nll(torch.rand(2, 60) * 2 - 1).mean().backward()

    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_a_clone_of_a_state_goes_on_by_itself() -> None:
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


def test_a_prompt_is_taken_without_dropout() -> None:
    model = WaveNet(dataclasses.replace(SMALL, dropout=0.5)).train()
    prompt = torch.rand(1, 20) * 2 - 1
    filled, stepped = model.new_state(), model.new_state()

    model.prefill(filled, prompt)
    step_over(model, stepped, delay(prompt))

    for one, other in zip(filled.queues, stepped.queues, strict=True):
        torch.testing.assert_close(one, other)


def test_only_a_fresh_state_takes_a_prompt() -> None:
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

    assert loss < 0.5 < model.config.levels**0.5  # a guess costs ln 16 = 2.77
