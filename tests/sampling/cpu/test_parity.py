"""The compiled sampler compared with the reference, which defines it."""

import os
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import conditions_for, configs, num_examples, some
from tests.sampling.parity import DRAWS, assert_same_signal, companded, noisy
from wavenet.config import LocalConfig, MelConfig, PredictorConfig, WaveNetConfig
from wavenet.distributions.companding import CONVENTIONS
from wavenet.model import WaveNet
from wavenet.sampling import WEIGHT_DTYPES, make_sampler
from wavenet.utils.cores import available_cores

EXAMPLES = num_examples(15)
FULL = "WAVENET_FULL" in os.environ
LONG = 20_000 if FULL else 5000
THREADS = [1, 2][: available_cores()]


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(config=configs(), batch_size=st.integers(1, 5), data=st.data(), seed=st.integers(0, 2**32))
def test_any_architecture_equals_the_reference(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, seed: int
) -> None:
    model = noisy(config, seed)
    prompt_length = data.draw(st.integers(0, 2 * config.receptive_field))
    classes = config.output_distribution == "categorical"
    draw = data.draw(st.sampled_from(DRAWS if classes else DRAWS[:3]))
    prompt = torch.rand(batch_size, prompt_length) * 2 - 1
    reference = make_sampler(model, "reference")
    sampler = make_sampler(model, "cpu", num_threads=data.draw(st.sampled_from(THREADS)))

    waveform = torch.rand(batch_size, 70) * 2 - 1  # past the slack of the queues
    conditions = conditions_for(config, batch_size, 70)
    torch.testing.assert_close(
        sampler.teacher_forced(waveform, **conditions),
        reference.teacher_forced(waveform, **conditions),
        rtol=0,
        atol=1e-4,
    )

    how: dict[str, Any] = conditions_for(config, batch_size, prompt_length + 20)
    guidance_scale = 1.0
    if config.has_global_conditioning:
        guidance_scale = data.draw(st.sampled_from([1.0, 1.0, 2.5]))
    signal = sampler.generate(
        20,
        batch_size=batch_size,
        prompt=prompt,
        seed=seed,
        sampling=draw,
        guidance_scale=guidance_scale,
        **how,
    )
    for item in range(batch_size):
        its_prompt, its_seed = prompt[item : item + 1], seed + item
        its: dict[str, Any] = {**some(how, slice(item, item + 1)), "guidance_scale": guidance_scale}
        alone = sampler.generate(20, prompt=its_prompt, seed=its_seed, sampling=draw, **its)
        assert torch.equal(signal[item], alone[0])
        assert_same_signal(sampler, reference, 20, its_prompt, seed=its_seed, sampling=draw, **its)


@pytest.mark.slow
def test_long_signal_equals_the_reference() -> None:
    config = WaveNetConfig(
        dilations=(1, 2, 4, 8, 16, 32, 64), residual_channels=16, gate_channels=32
    )
    model = noisy(config)

    parted = assert_same_signal(
        make_sampler(model, "cpu"), make_sampler(model, "reference"), LONG, seed=1
    )

    assert parted <= LONG / 4000


def test_16_bit_scalar_input_equals_the_reference() -> None:
    config = WaveNetConfig(
        quantization_channels=65536, input_type="scalar", input_kernel_size=2, dilations=(1, 3)
    )
    model = WaveNet(config)

    assert_same_signal(make_sampler(model, "cpu"), make_sampler(model, "reference"), 30)


@pytest.mark.parametrize("input_type", ["embedding", "scalar"])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_companding_equals_the_reference(name: Any, input_type: Any) -> None:
    model = noisy(companded(name, input_type))
    prompt = torch.rand(1, 9) * 2 - 1

    sampler, reference = make_sampler(model, "cpu"), make_sampler(model, "reference")
    assert_same_signal(sampler, reference, 60)
    assert_same_signal(sampler, reference, 30, prompt)
    signal = sampler.generate(60)

    assert torch.equal(model.distribution.quantize(signal), signal)


def test_small_gates_keep_their_digits() -> None:
    model = noisy(WaveNetConfig(dilations=(1, 2), bias=False))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("conv.weight"):
                parameter.mul_(1e-6)
            elif name.endswith("skip.weight"):
                parameter.mul_(1e6)
    waveform = torch.rand(1, 30) * 2 - 1

    params = make_sampler(model, "cpu").teacher_forced(waveform)

    expected = make_sampler(model, "reference").teacher_forced(waveform)
    assert float((params - expected).abs().max() / expected.std()) < 1e-4


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 13] if FULL else [3, 13])
@pytest.mark.parametrize("num_threads", THREADS)
def test_batch_threads_and_chunks_change_no_bit(
    weight_dtype: str, batch_size: int, num_threads: int
) -> None:
    config = WaveNetConfig(
        dilations=(1, 2, 4, 30, 97), residual_channels=40, gate_channels=90, skip_channels=200
    )
    model = noisy(config)
    alone = make_sampler(model, "cpu", weight_dtype=weight_dtype)
    sampler = make_sampler(model, "cpu", num_threads=num_threads, weight_dtype=weight_dtype)
    prompt = torch.rand(batch_size, 50) * 2 - 1

    chunks = list(sampler.stream(150, chunk=37, batch_size=batch_size, prompt=prompt, seed=4))

    for item, signal in enumerate(torch.cat(chunks, dim=1)):
        expected = alone.generate(150, prompt=prompt[item : item + 1], seed=4 + item)
        assert torch.equal(signal, expected[0])


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES)
@pytest.mark.parametrize("num_threads", THREADS)
@pytest.mark.parametrize(("guidance_scale", "predicts"), [(1.0, False), (2.0, False), (2.0, True)])
def test_conditioning_in_chunks_and_batches_changes_no_bit(
    weight_dtype: str, num_threads: int, guidance_scale: float, predicts: bool
) -> None:
    local = LocalConfig(
        in_channels=5, channels=20, upsample_scales=(4, 5), lookahead=1, kernel_size=2
    )
    config = WaveNetConfig(
        dilations=(1, 2, 5, 30, 97), residual_channels=40, local=local, num_speakers=3
    )
    if predicts:
        mel = MelConfig(
            sample_rate=8000, n_fft=128, hop_length=20, win_length=80, n_mels=5, f_max=4000.0
        )
        config = replace(
            config,
            output_distribution="logistic_mixture",
            quantization_channels=65536,
            input_type="mu-law",
            input_kernel_size=2,
            predictor=PredictorConfig(order=40, mel=mel),
        )
    model, length = noisy(config), 2000
    frames = torch.randn(3, 5, length // 20)
    speaker, prompt = torch.tensor([2, -1, 0]), torch.rand(3, 130) * 2 - 1
    sampler = make_sampler(model, "cpu", num_threads=num_threads, weight_dtype=weight_dtype)

    state = sampler.init_state(
        3,
        prompt,
        seed=4,
        local=frames[..., :30],
        speaker=speaker,
        guidance_scale=guidance_scale,
        more=True,
    )
    pieces = [torch.zeros(3, 0)]
    for first in range(30, 100, 7):
        pieces.append(sampler.generate_next(state, sampler.samples_available(state) or 0))
        state = state.clone()
        sampler.push_frames(state, frames[..., first : first + 7], more=first + 7 < 100)
    pieces.append(sampler.generate_next(state, sampler.samples_available(state) or 0))
    together = torch.cat(pieces, dim=1)

    alone = make_sampler(model, "cpu", weight_dtype=weight_dtype)
    assert together.shape == (3, length - 130)
    for item in range(3):
        its = slice(item, item + 1)
        whole = alone.generate(
            prompt=prompt[its], seed=4 + item, local=frames[its], speaker=speaker[its],
            guidance_scale=guidance_scale,
        )  # fmt: skip
        assert torch.equal(together[item], whole[0])


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES)
def test_state_round_trips_through_its_plain_form(weight_dtype: str) -> None:
    config = WaveNetConfig(dilations=(1, 2, 40), residual_channels=24, input_kernel_size=3)
    sampler = make_sampler(noisy(config), "cpu", weight_dtype=weight_dtype)
    state = sampler.init_state(2, torch.rand(30) * 2 - 1)
    sampler.generate_next(state, 101)
    clone = state.clone()
    clone.model = clone.model.to_wavenet_state()

    assert torch.equal(sampler.generate_next(clone, 80), sampler.generate_next(state, 80))


@pytest.mark.parametrize(("weight_dtype", "tolerance"), [("bfloat16", 0.1), ("int8", 0.15)])
def test_lower_precision_is_close_to_the_reference(weight_dtype: str, tolerance: float) -> None:
    config = WaveNetConfig(dilations=(1, 2, 4, 8), residual_channels=64)
    torch.manual_seed(0)
    model = WaveNet(config)
    waveform = torch.rand(2, 200) * 2 - 1

    params = make_sampler(model, "cpu", weight_dtype=weight_dtype).teacher_forced(waveform)

    exact = make_sampler(model, "reference").teacher_forced(waveform)
    error = (params - exact).abs().max()
    assert 0 < error < tolerance * exact.std()
