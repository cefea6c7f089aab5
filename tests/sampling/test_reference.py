from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import SMALL, configs
from wavenet.config import WaveNetConfig
from wavenet.distributions import Draw
from wavenet.errors import CheckpointError, ConfigError
from wavenet.model import WaveNet
from wavenet.sampling import SamplerState, make_sampler
from wavenet.sampling.noise import uniforms

GREEDY = Draw(temperature=0)


@pytest.fixture(scope="module")
def model() -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(SMALL)


@settings(max_examples=40)
@given(config=configs(), prompt_length=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_each_sample_is_drawn_from_forwards_distribution_of_it(
    config: WaveNetConfig, prompt_length: int, seed: int
) -> None:
    model = WaveNet(config).double()
    prompt = torch.rand(1, prompt_length, dtype=torch.float64) * 2 - 1

    signal = make_sampler(model).generate(12, prompt=prompt, seed=seed)

    whole = torch.cat([prompt, signal], dim=1)
    noise = uniforms([seed], 0, 12)
    with torch.no_grad():
        params = model(whole)[..., prompt_length:]
    for t in range(12):
        drawn = model.distribution.sample(params[..., t], noise[:, t], Draw())
        assert drawn == signal[:, t]


def test_the_same_seed_gives_the_same_signal_and_another_another(model: WaveNet) -> None:
    sampler = make_sampler(model)

    first, again, other = (sampler.generate(50, seed=seed) for seed in (3, 3, 4))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_an_item_does_not_depend_on_its_batch(model: WaveNet, batch_size: int) -> None:
    sampler = make_sampler(model)
    prompt = torch.rand(batch_size, 9) * 2 - 1

    batch = sampler.generate(40, batch_size=batch_size, prompt=prompt, seed=5)

    for item in range(batch_size):
        alone = sampler.generate(40, prompt=prompt[item : item + 1], seed=5 + item)
        assert torch.equal(batch[item], alone[0])


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_together_are_the_whole_signal(model: WaveNet, chunk: int) -> None:
    sampler = make_sampler(model)

    chunks = list(sampler.stream(40, chunk=chunk, batch_size=2, seed=1))

    assert torch.equal(torch.cat(chunks, dim=1), sampler.generate(40, batch_size=2, seed=1))


def test_a_stream_without_length_has_no_end(model: WaveNet) -> None:
    stream = make_sampler(model).stream(chunk=5)

    assert [next(stream).shape for _ in range(3)] == [(1, 5)] * 3


def test_a_prompt_is_continued_as_if_it_had_been_generated(model: WaveNet) -> None:
    sampler = make_sampler(model)
    signal = sampler.generate(60, seed=2)
    noise = uniforms([2], 0, 60)

    rest = sampler.generate(20, prompt=signal[0, :40], noise=noise[:, 40:])

    assert torch.equal(rest, signal[:, 40:])


def test_given_noise_takes_the_place_of_the_seeds(model: WaveNet) -> None:
    sampler = make_sampler(model)

    given_noise = sampler.generate(30, noise=uniforms([7], 0, 30))

    assert torch.equal(given_noise, sampler.generate(30, seed=7))


def test_a_cloned_and_a_saved_state_go_on_alike(model: WaveNet, tmp_path: Path) -> None:
    sampler = make_sampler(model)
    state = sampler.start(batch_size=2, prompt=torch.rand(6) * 2 - 1, seed=9)
    sampler.advance(state, 11)
    clone = state.clone()
    state.save(tmp_path / "state.safetensors")

    expected = sampler.advance(state, 13)

    loaded = SamplerState.load(tmp_path / "state.safetensors")
    assert torch.equal(sampler.advance(clone, 13), expected)
    assert torch.equal(sampler.advance(loaded, 13), expected)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"\x00" * 20)

    with pytest.raises(CheckpointError, match="not a whole sampler state"):
        SamplerState.load(tmp_path / "state")


def test_no_temperature_needs_no_noise(model: WaveNet) -> None:
    sampler = make_sampler(model)

    one, other = (sampler.generate(40, seed=seed, draw=GREEDY) for seed in (0, 1))

    assert torch.equal(one, other)


def test_a_sampler_keeps_the_weights_it_was_made_with() -> None:
    model = WaveNet(SMALL)
    sampler = make_sampler(model)
    before = sampler.generate(20)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()

    assert torch.equal(sampler.generate(20), before)


def test_sampling_leaves_the_model_as_it_was() -> None:
    model = WaveNet(WaveNetConfig(levels=4, dilations=(1,), dropout=0.5, weight_norm=True)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()

    make_sampler(model).generate(3)

    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.nll(torch.zeros(1, 4)).sum().backward()


def test_weight_norm_is_folded_without_a_change_of_signal() -> None:
    config = WaveNetConfig(levels=8, dilations=(1, 2), weight_norm=True, residual_channels=4)
    model = WaveNet(config).double()
    state = model.new_state()
    sample, signal = torch.zeros(1, dtype=torch.float64), []
    for noise in uniforms([0], 0, 20)[0]:
        sample = model.distribution.sample(model.step(sample, state), noise[None], Draw())
        signal.append(sample)

    assert torch.equal(make_sampler(model).generate(20), torch.stack(signal, dim=1).detach())


def test_nothing_is_generated_when_nothing_is_asked(model: WaveNet) -> None:
    assert make_sampler(model).generate(0, batch_size=2).shape == (2, 0)


def test_an_unknown_backend_is_refused_with_the_known_ones(model: WaveNet) -> None:
    with pytest.raises(ConfigError, match="auto, reference"):
        make_sampler(model, "fastest")


def test_a_state_of_another_model_is_refused(model: WaveNet) -> None:
    other = make_sampler(WaveNet(WaveNetConfig(levels=16, dilations=(1, 2))))

    with pytest.raises(ValueError, match="another model's"):
        make_sampler(model).advance(other.start(), 1)


@pytest.mark.parametrize("prompt", [[2.0], [float("nan")], [[0.0], [0.0]]])
def test_a_prompt_that_is_none_is_refused(model: WaveNet, prompt: list[float]) -> None:
    with pytest.raises(ValueError, match="prompt must"):
        make_sampler(model).generate(1, prompt=torch.tensor(prompt))


def test_a_signal_never_leaves_its_range(model: WaveNet) -> None:
    signal = make_sampler(model).generate(20, noise=torch.ones(1, 20, 1))

    assert signal.abs().max() <= 1


def test_wrong_noise_and_seeds_are_refused(model: WaveNet) -> None:
    sampler = make_sampler(model)

    with pytest.raises(ValueError, match="shape"):
        sampler.generate(5, noise=torch.zeros(1, 4, 1))
    with pytest.raises(ValueError, match="one an item"):
        sampler.generate(5, batch_size=2, seed=[1])
    with pytest.raises(ValueError, match="from 0"):
        sampler.generate(5, seed=-1)
    with pytest.raises(ValueError, match="length"):
        sampler.generate(-5)
    with pytest.raises(ValueError, match="chunk"):
        next(sampler.stream(5, chunk=0))
