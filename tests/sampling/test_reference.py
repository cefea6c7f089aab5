from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import conditions_for, configs, num_examples
from wavenet.config import WaveNetConfig
from wavenet.distributions import SamplingConfig
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler
from wavenet.sampling.state import uniforms


@settings(max_examples=num_examples(20, 40))
@given(config=configs(), prompt_length=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_samples_are_drawn_from_the_distribution_of_forward(
    config: WaveNetConfig, prompt_length: int, seed: int
) -> None:
    model = WaveNet(config).double()
    prompt = torch.rand(1, prompt_length, dtype=torch.float64) * 2 - 1

    conditions: dict[str, Any] = conditions_for(config, 1, prompt_length + 12, torch.float64)

    sampler = make_sampler(model, "reference")
    signal = sampler.generate(12, prompt=prompt, seed=seed, **conditions)

    whole = torch.cat([prompt, signal], dim=1)
    noise = uniforms([seed], 0, 12, model.distribution.num_noise)
    with torch.no_grad():
        params = model(whole, **conditions)[..., prompt_length:]
    for t in range(12):
        drawn = model.distribution.sample(params[..., t], noise[:, t], SamplingConfig())
        assert drawn == signal[:, t]


def test_removing_weight_norm_keeps_the_signal() -> None:
    config = WaveNetConfig(
        quantization_channels=8, dilations=(1, 2), weight_norm=True, residual_channels=4
    )
    model = WaveNet(config).double()
    state = model.new_state()
    sample, signal = torch.zeros(1, dtype=torch.float64), []
    for noise in uniforms([0], 0, 20)[0]:
        sample = model.distribution.sample(model.step(sample, state), noise[None], SamplingConfig())
        signal.append(sample)

    assert torch.equal(
        make_sampler(model, "reference").generate(20), torch.stack(signal, dim=1).detach()
    )


@settings(max_examples=num_examples(20))
@given(config=configs(), dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_a_model_in_half_precision_has_float32_signals_and_the_parameters_of_forward(
    config: WaveNetConfig, dtype: torch.dtype
) -> None:
    model = WaveNet(config).to(dtype).eval()
    waveform = torch.rand(1, 40) * 2 - 1
    conditions: dict[str, Any] = conditions_for(config, 1, 40, torch.float32)
    sampler = make_sampler(model, "reference")

    params = sampler.teacher_forced(waveform, **conditions)
    state = sampler.init_state(prompt=waveform[:, :30], **conditions)
    signal = sampler.generate_next(state, 10)

    with torch.no_grad():
        expected = model(waveform, **conditions)
    assert params.dtype == expected.dtype
    if config.local is None:  # it is computed in windows, which round in another order
        assert torch.equal(params, expected)
    assert signal.dtype == torch.float32
    assert torch.equal(signal, model.distribution.quantize(signal))
    assert torch.equal(sampler.init_state(prompt=waveform, **conditions).sample, waveform[:, -1])
