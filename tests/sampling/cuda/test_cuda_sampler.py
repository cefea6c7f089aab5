"""The kernel on the stand-in for a GPU compared with the reference, which defines the signal."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.architectures import (
    SMALL,
    conditions_for,
    configs,
    num_examples,
    predictor_configs,
    some,
)
from tests.gpu.stand_in.device import SamplerStandIn, cuda_sampler, needs_compiler
from tests.sampling.graph.test_capture import MODELS, config_of
from tests.sampling.parity import (
    DRAWS,
    assert_nan_is_reported,
    assert_same_signal,
    companded,
    noisy,
)
from wavenet.config import WaveNetConfig
from wavenet.distributions.companding import CONVENTIONS
from wavenet.sampling import SamplerState, make_sampler
from wavenet.sampling.cuda.task import Task
from wavenet.utils.errors import ConfigError

pytestmark = needs_compiler
EXAMPLES = num_examples(5, 300)
# of parameters, against float32, as a part of the largest: bfloat16's factors are rounded to 8 bits
# (0.4 %) in each layer, and the worst of 56 models of `MODELS`, with 8 seeds each, is off by 0.8 %
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.02}


@st.composite
def known_configs(draw: st.DrawFn) -> WaveNetConfig:
    """Any small model, its linear predictor from the mel if it has one."""
    config = draw(configs())
    if config.predictor is None or config.predictor.source == "mel":
        return config
    mel = None if config.local is None else draw(predictor_configs(config.local))
    return replace(config, predictor=mel)


def any_start(data: st.DataObject, config: WaveNetConfig, batch_size: int) -> dict[str, Any]:
    """Any prompt, conditioning and guidance for 20 samples."""
    length = data.draw(st.integers(0, 2 * config.receptive_field))
    start: dict[str, Any] = conditions_for(config, batch_size, length + 20)
    start["prompt"] = torch.rand(batch_size, length) * 2 - 1
    if config.has_global_conditioning:
        start["guidance_scale"] = data.draw(st.sampled_from([1.0, 2.5]))
    return start


@settings(max_examples=EXAMPLES)
@given(
    config=known_configs(),
    batch_size=st.integers(1, 20),
    data=st.data(),
    seed=st.integers(0, 2**32),
)
def test_any_architecture_differs_from_the_reference_by_rounding(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, seed: int
) -> None:
    model = noisy(config, seed)
    sampler, reference = cuda_sampler(model), make_sampler(model, "reference")
    waveform = torch.rand(batch_size, 20) * 2 - 1
    conditions = conditions_for(config, batch_size, 20)
    params = reference.teacher_forced(waveform, **conditions)
    for weight_dtype, tolerance in TOLERANCE.items():
        found = cuda_sampler(model, weight_dtype).teacher_forced(waveform, **conditions)
        largest = max(1, float(params.abs().max()))
        torch.testing.assert_close(found, params, rtol=0, atol=tolerance * largest)

    is_categorical = config.output_distribution == "categorical"
    sampling = data.draw(st.sampled_from(DRAWS if is_categorical else DRAWS[:3]))
    start = any_start(data, config, batch_size)
    item = slice(batch_size - 1, batch_size)
    guidance = {"guidance_scale": start.pop("guidance_scale", 1.0)}
    own: dict[str, Any] = {**some(start, item), **guidance}
    assert_same_signal(sampler, reference, 20, seed=seed, sampling=sampling, **own)
    how: dict[str, Any] = {**start, **guidance, "batch_size": batch_size, "sampling": sampling}
    seeds = [seed + place for place in range(batch_size)]
    signal = sampler.generate(20, seed=seeds, **how)
    chunks = list(sampler.stream(20, chunk=7, seed=seeds, **how))
    assert torch.equal(torch.cat(chunks, dim=1), signal)
    alone = sampler.generate(20, seed=seeds[-1], sampling=sampling, **own)
    assert torch.equal(alone, signal[item])


@settings(max_examples=EXAMPLES // 2)
@given(config=known_configs(), batch_size=st.integers(1, 3), data=st.data())
def test_any_state_moves_between_backends(
    config: WaveNetConfig, batch_size: int, data: st.DataObject
) -> None:
    model = noisy(config)
    samplers = {"cuda": cuda_sampler(model), "reference": make_sampler(model, "reference")}
    start = any_start(data, config, batch_size)
    name = data.draw(st.sampled_from([*samplers]))
    state = samplers[name].init_state(batch_size, **start)
    length = 5 if config.output_distribution == "categorical" else 0
    samplers[name].generate_next(state, length)  # drawn by one, continued by the other
    kept = state.clone()

    there = {name: samplers[name].generate_next(state.clone(), 1) for name in samplers}

    back = samplers["cuda"]._warp_state(state).to_wavenet_state()  # type: ignore[attr-defined]
    for queue, own in zip(back.queues, kept.model.to_wavenet_state().queues, strict=True):
        assert torch.equal(queue, own)
    difference = (there["cuda"] - there["reference"]).abs().max()
    assert difference < (2 / 32768 if length == 0 else 2)


@pytest.mark.parametrize("weight_dtype", TOLERANCE)
@pytest.mark.parametrize("name", [name for name in MODELS if "past" not in name])
def test_parameters_are_within_the_stated_tolerance(name: str, weight_dtype: str) -> None:
    config = config_of(name)
    model, conditions = noisy(config), conditions_for(config, 18, 30)
    waveform = torch.rand(18, 30) * 2 - 1

    params = cuda_sampler(model, weight_dtype).teacher_forced(waveform, **conditions)

    expected = make_sampler(model, "reference").teacher_forced(waveform, **conditions)
    tolerance = TOLERANCE[weight_dtype] * max(1, float(expected.abs().max()))
    torch.testing.assert_close(params, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("order", [1, 5, 16, 31])
def test_predictions_are_those_of_the_definition_to_the_bit(order: int) -> None:
    """A network that puts out zeros leaves the prediction and the scale of its residual."""
    config = config_of("predicted")
    assert config.predictor is not None
    predictor = replace(config.predictor, order=order)
    model = noisy(replace(config, num_mixtures=1, predictor=predictor))
    for parameter in model.head.output.parameters():
        torch.nn.init.zeros_(parameter)
    conditions, waveform = conditions_for(model.config, 3, 90), torch.rand(3, 90) * 2 - 1

    mean, log_scale = cuda_sampler(model).teacher_forced(waveform, **conditions).unbind(1)

    assert model.mel_predictor is not None
    rows = model.mel_predictor(conditions["local"])[..., :90]
    assert torch.equal(
        mean, model.mel_predictor.predict(model.distribution.quantize(waveform), rows)
    )
    torch.testing.assert_close(log_scale, rows[:, -1].log(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("length", [1, 4, 70])
@pytest.mark.parametrize("name", ["predicted", "predicted-scalar"])
def test_a_prompt_leaves_the_predictions_of_the_reference(name: str, length: int) -> None:
    config = replace(config_of(name), num_speakers=2, input_kernel_size=3)
    model, start = noisy(config), conditions_for(config, 3, 70)
    start["prompt"] = torch.rand(3, length) * 2 - 1
    how: dict[str, Any] = {**start, "guidance_scale": 2.0}

    state = cuda_sampler(model).init_state(3, **how).model.to_wavenet_state()

    expected = make_sampler(model, "reference").init_state(3, **how).model.to_wavenet_state()
    for place in (0, -1):  # codes of the three signals; samples, the last prediction, its scale
        assert torch.equal(state.queues[place], expected.queues[place])


@pytest.mark.parametrize("name", ["predicted", "predicted-scalar"])
def test_a_state_that_predicts_goes_round_all_backends(name: str, tmp_path: Path) -> None:
    model = noisy(config_of(name))
    samplers = [make_sampler(model, "cpu"), cuda_sampler(model), make_sampler(model, "reference")]
    how: dict[str, Any] = conditions_for(model.config, 2, 60)
    state = samplers[-1].init_state(2, **how)
    kept = state.clone()
    for sampler in [*samplers, samplers[1]]:
        sampler.generate_next(state, 7)
        state.save(tmp_path / "state")
        state = SamplerState.load(tmp_path / "state")
    sampler.generate_next(kept, 28)

    signals = [sampler.generate_next(state.clone(), 1) for sampler in samplers]

    for signal in signals:
        expected = samplers[-1].generate_next(kept.clone(), 1)
        torch.testing.assert_close(signal, expected, rtol=0, atol=2 / 32768)


@pytest.mark.parametrize("name", ["conditioned", "predicted"])
@pytest.mark.parametrize("weight_dtype", TOLERANCE)
def test_bits_depend_neither_on_the_batch_nor_on_the_order_of_threads(
    weight_dtype: str, name: str
) -> None:
    model = noisy(replace(config_of(name), num_speakers=2))
    start: dict[str, Any] = {**conditions_for(model.config, 35, 40), "guidance_scale": 2.0}
    start["prompt"] = torch.rand(35, 9) * 2 - 1
    signals = []
    for seed in range(3):
        kernel = SamplerStandIn(weight_dtype, seed=seed, predicts=name == "predicted")
        sampler = cuda_sampler(model, weight_dtype, kernel)
        signals.append(sampler.generate(25, batch_size=35, **start))
    scale = {"guidance_scale": start.pop("guidance_scale")}

    assert torch.equal(signals[0], signals[1])
    assert torch.equal(signals[0], signals[2])
    for item in (0, 7, 34):
        own: dict[str, Any] = {**some(start, slice(item, item + 1)), **scale}
        assert torch.equal(sampler.generate(25, seed=item, **own), signals[0][item : item + 1])
    ragged = sampler.generate_ragged([25, 3, 11, *[2] * 32], **start, **scale)
    for item, length in enumerate([25, 3, 11, *[2] * 32]):
        assert torch.equal(ragged[item], signals[0][item, :length])


def test_given_noise_and_noise_of_seeds_give_the_same_signal() -> None:
    from wavenet.sampling.state import uniforms

    for name in ("classes", "gaussians"):
        model = noisy(config_of(name))
        sampler = cuda_sampler(model)
        seeds = [0, 5, 2**63, 2**64 - 1]
        noise = uniforms(seeds, 0, 30, model.distribution.num_noise)

        state = sampler.init_state(4, seed=seeds)
        drawn = torch.cat([sampler.generate_next(state, length) for length in (7, 23)], dim=1)

        assert torch.equal(drawn, sampler.generate(30, batch_size=4, noise=noise))


@pytest.mark.parametrize("input_type", ["embedding", "scalar"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_companding_equals_the_reference(name: Any, input_type: Any) -> None:
    model = noisy(companded(name, input_type))
    prompt: Tensor = torch.rand(1, 9) * 2 - 1
    for start in ({}, {"prompt": prompt}):
        assert_same_signal(cuda_sampler(model), make_sampler(model, "reference"), 30, **start)


@pytest.mark.parametrize("output", ["categorical", "logistic_mixture", "gaussian_mixture"])
def test_a_model_that_puts_out_nan_is_reported(output: str) -> None:
    assert_nan_is_reported(output, cuda_sampler)


def test_what_the_kernel_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"does not know predictor\.source=past: use backend=gr"):
        cuda_sampler(noisy(config_of("predicted-from-the-past")))
    with pytest.raises(ConfigError, match="float32 and bfloat16, got int8: use backend=cpu"):
        cuda_sampler(noisy(SMALL), "int8", SamplerStandIn())
    small = SamplerStandIn()
    small.max_shared_bytes = 1000
    with pytest.raises(ConfigError, match="bytes of shared memory .* the GPU has 1000"):
        cuda_sampler(noisy(SMALL), kernel=small)


def test_the_arguments_have_the_layout_of_the_kernel() -> None:
    assert SamplerStandIn().library.task_bytes() == 8 * len(Task._fields_)
