"""Voiced samples may be drawn with a temperature of their own."""

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures import SMALL
from tests.sampling.parity import assert_same_signal, noisy
from tests.test_linear_predictor import CONFIG, MEL, voice
from wavenet import PredictorConfig, SamplingConfig, WaveNet, WaveNetConfig, make_sampler
from wavenet.features.mel import LogMel
from wavenet.sampling.state import uniforms
from wavenet.sampling.voicing import voiced_subframes
from wavenet.utils.cores import available_cores
from wavenet.utils.errors import ConfigError

LENGTH = 400
COLD_VOWELS = SamplingConfig(temperature=1.0, voiced_temperature=0.3)
GUIDED = dataclasses.replace(CONFIG, num_speakers=2, global_channels=4)
PAST = dataclasses.replace(
    CONFIG,
    predictor=PredictorConfig(source="past", order=8, window_length=64, interval=8),
)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """A vowel between two noises, `(1, n_mels, F)`."""
    noise = 0.01 * torch.randn(1, 120, generator=torch.Generator().manual_seed(0))
    mels: Tensor = LogMel(MEL)(torch.cat([noise, voice(8000, 0.02), noise], dim=1))
    return mels


def voiced_samples(model: WaveNet, frames: Tensor) -> list[bool]:
    state = make_sampler(model, "reference").init_state(local=frames)
    given = state.next_local_conditioning(model, LENGTH)
    assert given is not None
    assert given.subframes is not None
    voiced: list[bool] = voiced_subframes(given)[0, given.subframes].tolist()
    return voiced


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_it_is_the_signal_of_pieces_that_each_have_one_temperature(
    frames: Tensor, backend: str
) -> None:
    model = noisy(CONFIG)
    sampler, cold = make_sampler(model, backend), COLD_VOWELS.of_voiced()
    state, pieces = sampler.init_state(local=frames, seed=1), []
    voiced = voiced_samples(model, frames)
    for is_voiced, samples in itertools.groupby(voiced):
        how = SamplingConfig(temperature=cold.temperature if is_voiced else 1.0)
        pieces.append(sampler.generate_next(state, len(list(samples)), how))

    signal = sampler.generate(LENGTH, local=frames, seed=1, sampling=COLD_VOWELS)

    assert len(pieces) > 2
    assert 0.1 < sum(voiced) / LENGTH < 0.9
    assert torch.equal(signal, torch.cat(pieces, dim=1))


@pytest.mark.parametrize("config", [CONFIG, GUIDED])
def test_the_compiled_sampler_equals_the_reference(config: WaveNetConfig, frames: Tensor) -> None:
    model = noisy(config)
    how: dict[str, Any] = {}
    if config is GUIDED:
        how = {"speaker": torch.tensor([1]), "guidance_scale": 2.0}

    parted = assert_same_signal(
        make_sampler(model, "cpu"),
        make_sampler(model, "reference"),
        LENGTH,
        local=frames,
        sampling=COLD_VOWELS,
        **how,
    )

    assert parted < 5


@pytest.mark.parametrize(
    ("backend", "num_threads"),
    [("reference", 1), *(("cpu", n) for n in [1, 2][: available_cores()])],
)
def test_batch_chunks_and_threads_change_nothing(
    frames: Tensor, backend: str, num_threads: int
) -> None:
    sampler = make_sampler(noisy(GUIDED), backend, num_threads=num_threads)
    both = torch.cat([frames, frames.flip(-1)])
    how: dict[str, Any] = {"guidance_scale": 1.5, "speaker": torch.tensor([0])}
    noise = uniforms([3, 4], 0, LENGTH, sampler.model.distribution.num_noise)

    signal = sampler.generate(
        LENGTH, batch_size=2, local=both, noise=noise, sampling=COLD_VOWELS, **how
    )

    for item in range(2):
        state = sampler.init_state(local=both[item : item + 1], **how)
        pieces = [
            sampler.generate_next(state, 50, COLD_VOWELS, noise[item : item + 1, first:][:, :50])
            for first in range(0, LENGTH, 50)
        ]
        assert torch.equal(signal[item : item + 1], torch.cat(pieces, dim=1))


def test_the_same_temperature_for_both_changes_nothing(frames: Tensor) -> None:
    sampler = make_sampler(noisy(CONFIG), "cpu")
    one = SamplingConfig(temperature=0.7)
    both = SamplingConfig(temperature=0.7, voiced_temperature=0.7)

    signals = [sampler.generate(LENGTH, local=frames, sampling=how) for how in (one, both)]

    assert torch.equal(*signals)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(PAST, local=None)])
def test_a_model_that_does_not_know_what_is_voiced_refuses(
    config: WaveNetConfig, backend: str
) -> None:
    with pytest.raises(ConfigError, match="requires a model with a linear predictor from its mel"):
        make_sampler(WaveNet(config), backend).generate(5, sampling=COLD_VOWELS)


def test_a_sampler_with_one_temperature_for_all_refuses(frames: Tensor) -> None:
    with pytest.raises(ConfigError, match="backend=graph draws all samples with one temperature"):
        make_sampler(WaveNet(CONFIG), "graph").generate(5, local=frames, sampling=COLD_VOWELS)


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_an_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="voiced_temperature must be 0 or more"):
        SamplingConfig(voiced_temperature=temperature)
