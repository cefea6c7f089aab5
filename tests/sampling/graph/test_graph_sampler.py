"""The step as tensor operations compared with the reference, which defines it."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import SMALL, conditions_for, configs, num_examples, some
from tests.sampling.parity import (
    DRAWS,
    assert_nan_is_reported,
    assert_same_signal,
    companded,
    noisy,
)
from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.distributions.companding import CONVENTIONS
from wavenet.sampling import make_sampler
from wavenet.sampling.graph.step import PIECE

EXAMPLES = num_examples(12)


def start_of(data: st.DataObject, config: WaveNetConfig, batch_size: int) -> dict[str, Any]:
    """Any prompt, conditioning and guidance for a model in float64, for 20 samples."""
    length = data.draw(st.integers(0, 2 * config.receptive_field))
    start: dict[str, Any] = conditions_for(config, batch_size, length + 20, torch.float64)
    start["prompt"] = torch.rand(batch_size, length, dtype=torch.float64) * 2 - 1
    if config.has_global_conditioning:
        start["guidance_scale"] = data.draw(st.sampled_from([1.0, 2.5]))
    return start


@settings(max_examples=EXAMPLES)
@given(config=configs(), batch_size=st.integers(1, 4), data=st.data(), seed=st.integers(0, 2**32))
def test_any_architecture_equals_the_reference(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, seed: int
) -> None:
    model = noisy(config, seed).double()  # rounding is too small to decide a draw
    sampler, reference = make_sampler(model, "graph"), make_sampler(model, "reference")
    waveform = torch.rand(batch_size, 70, dtype=torch.float64) * 2 - 1
    conditions = conditions_for(config, batch_size, 70, torch.float64)
    torch.testing.assert_close(
        sampler.teacher_forced(waveform, **conditions),
        reference.teacher_forced(waveform, **conditions),
        rtol=1e-9,
        atol=1e-9,
    )

    start = start_of(data, config, batch_size)
    is_categorical = config.output_distribution == "categorical"
    sampling = data.draw(st.sampled_from(DRAWS if is_categorical else DRAWS[:3]))
    how: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "sampling": sampling}
    signal = reference.generate(20, **start, **how)

    assert torch.equal(sampler.generate(20, **start, **how), signal)
    chunks = list(sampler.stream(20, chunk=data.draw(st.integers(1, 9)), **start, **how))
    assert torch.equal(torch.cat(chunks, dim=1), signal)


@settings(max_examples=EXAMPLES)
@given(config=configs(), batch_size=st.integers(1, 3), data=st.data(), seed=st.integers(0, 2**32))
def test_any_state_moves_between_backends(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, seed: int
) -> None:
    model = noisy(config, seed).double()
    samplers = {name: make_sampler(model, name) for name in ("graph", "reference")}
    start = start_of(data, config, batch_size)
    whole = samplers["reference"].generate(20, batch_size=batch_size, seed=seed, **start)
    names = st.sampled_from([*samplers])

    state = samplers[data.draw(names)].init_state(batch_size, seed=seed, **start)
    pieces = []
    for length in (0, 1, 6, 13):
        kept = state.clone()
        pieces.append(samplers[data.draw(names)].generate_next(state, length))
        assert torch.equal(samplers[data.draw(names)].generate_next(kept, length), pieces[-1])

    assert torch.equal(torch.cat(pieces, dim=1), whole)
    assert state.model.position == start["prompt"].shape[1] + 20


@settings(max_examples=EXAMPLES // 2)
@given(config=configs(), batch_size=st.integers(1, 3), data=st.data(), seed=st.integers(0, 2**32))
def test_any_architecture_in_float32_differs_by_rounding(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, seed: int
) -> None:
    model = noisy(config, seed)
    sampler, reference = make_sampler(model, "graph"), make_sampler(model, "reference")
    waveform = torch.rand(batch_size, 70) * 2 - 1
    conditions = conditions_for(config, batch_size, 70)
    torch.testing.assert_close(
        sampler.teacher_forced(waveform, **conditions),
        reference.teacher_forced(waveform, **conditions),
        rtol=0,
        atol=1e-4,
    )

    is_categorical = config.output_distribution == "categorical"
    sampling = data.draw(st.sampled_from(DRAWS if is_categorical else DRAWS[:3]))
    how: dict[str, Any] = conditions_for(config, batch_size, 20)
    for item in range(batch_size):
        its: dict[str, Any] = some(how, slice(item, item + 1))
        assert_same_signal(sampler, reference, 20, seed=seed, sampling=sampling, **its)


@pytest.mark.parametrize("input_type", ["embedding", "scalar"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_companding_equals_the_reference(name: Any, input_type: Any) -> None:
    model = noisy(companded(name, input_type)).double()
    prompt = torch.rand(2, 9, dtype=torch.float64) * 2 - 1
    samplers = [make_sampler(model, backend) for backend in ("graph", "reference")]

    for given_prompt in (None, prompt):
        signal, expected = (
            sampler.generate(40, batch_size=2, prompt=given_prompt) for sampler in samplers
        )
        assert torch.equal(signal, expected)
        assert torch.equal(model.distribution.quantize(signal), signal)


def test_a_signal_of_many_pieces_equals_the_reference() -> None:
    config = WaveNetConfig(
        dilations=(1, 2, 4, 8, 16, 32, 64), residual_channels=16, gate_channels=32
    )
    model = noisy(config).double()
    graph, reference = (make_sampler(model, name) for name in ("graph", "reference"))

    signal = graph.generate(2 * PIECE + 100, batch_size=2, seed=1)

    assert torch.equal(signal, reference.generate(2 * PIECE + 100, batch_size=2, seed=1))


def test_frames_that_arrive_later_give_the_same_signal() -> None:
    local = LocalConfig(
        in_channels=5, channels=6, upsample_scales=(4, 5), lookahead=1, kernel_size=2
    )
    model = noisy(WaveNetConfig(dilations=(1, 2, 30), residual_channels=8, local=local)).double()
    frames, prompt = torch.randn(3, 5, 100).double(), torch.rand(3, 130).double() * 2 - 1
    sampler = make_sampler(model, "graph")
    whole = sampler.generate(prompt=prompt, batch_size=3, local=frames)

    state = sampler.init_state(3, prompt, local=frames[..., :30], more=True)
    pieces = [sampler.generate_next(state, sampler.samples_available(state) or 0)]
    for first in range(30, 100, 7):
        sampler.push_frames(state, frames[..., first : first + 7], more=first + 7 < 100)
        pieces.append(sampler.generate_next(state, sampler.samples_available(state) or 0))

    assert torch.equal(torch.cat(pieces, dim=1), whole)
    expected = make_sampler(model, "reference").generate(
        300, prompt=prompt, batch_size=3, local=frames
    )
    assert torch.equal(whole[:, :300], expected)


def test_half_precision_is_computed_in_float32() -> None:
    model = noisy(SMALL).bfloat16()

    signal = make_sampler(model, "graph").generate(30, seed=1)

    assert torch.equal(signal, make_sampler(model.float(), "reference").generate(30, seed=1))


@pytest.mark.parametrize("output", ["categorical", "logistic_mixture", "gaussian_mixture"])
def test_a_model_that_puts_out_nan_is_reported(output: str) -> None:
    assert_nan_is_reported(output, lambda model: make_sampler(model, "graph"))


def test_a_state_without_the_conditioning_of_the_model_is_refused() -> None:
    config = dataclasses.replace(SMALL, num_speakers=2)
    sampler = make_sampler(noisy(config), "graph")
    state = make_sampler(noisy(SMALL), "reference").init_state()

    with pytest.raises(ValueError, match="global conditioning of 0 channels, this model has 16"):
        sampler.generate_next(state, 1)
