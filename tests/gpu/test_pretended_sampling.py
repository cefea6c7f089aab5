"""Samplers whose model or state is on a CUDA device, which is pretended."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.architectures import SMALL
from tests.pretend import CUDA, pretended_gpu, to_gpu
from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.data.audio import open_wav
from wavenet.data.dataset import ClipReader, SequentialSegments
from wavenet.data.manifest import Clip
from wavenet.distributions import SamplingConfig
from wavenet.evaluation.nll import sampler_bits_per_sample
from wavenet.model import WaveNet
from wavenet.sampling import ReferenceSampler, make_sampler

LOCAL = LocalConfig(
    in_channels=3, channels=4, upsample_scales=(4,), lookahead=1, context_dilations=(1,)
)
CONDITIONED = {**vars(SMALL), "num_speakers": 3, "global_in_channels": 2, "local": LOCAL}
START: dict[str, Any] = {
    "local": torch.zeros(2, 3, 400),
    "speaker": torch.tensor([0, 2]),
    "vector": torch.zeros(2, 2),
}


def gpu_sampler(**options: Any) -> ReferenceSampler:
    """A sampler whose model is on the pretended device."""
    sampler = ReferenceSampler(WaveNet(WaveNetConfig(**{**CONDITIONED, **options})))
    to_gpu(sampler.model)
    return sampler


@pytest.mark.parametrize("to_cuda", [True, False])
def test_a_state_with_frames_continues_on_the_other_device(to_cuda: bool) -> None:
    cpu_sampler = ReferenceSampler(WaveNet(WaveNetConfig(**CONDITIONED)))
    with pretended_gpu():
        samplers = [gpu_sampler(), cpu_sampler]
        first, second = reversed(samplers) if to_cuda else samplers
        state = first.init_state(2, torch.zeros(2, 9), guidance_scale=2.0, **START)
        first.generate_next(state, 2)
        window = state.conditioning.window  # of frames that the next samples need too

        signal = second.generate_next(state, 2)

    assert window is not None
    assert signal.device.type == ("cuda" if to_cuda else "cpu")
    assert state.conditioning.window is not None
    assert state.conditioning.window.device != window.device


def test_the_cpu_sampler_continues_a_state_of_a_gpu() -> None:
    cpu_sampler = make_sampler(WaveNet(WaveNetConfig(**CONDITIONED)), "cpu")
    with pretended_gpu():
        sampler = gpu_sampler()
        state = sampler.init_state(2, torch.zeros(2, 9), **START)
        sampler.generate_next(state, 2)

        signal = cpu_sampler.generate_next(state, 5)

    assert signal.shape == (2, 5)
    assert signal.device.type == "cpu"


def test_a_sampler_on_a_gpu_is_evaluated(tmp_path: Path) -> None:
    with open_wav(tmp_path / "a.wav", 8000) as file:
        file.write(np.zeros(40, np.float32))
    clip = Clip("a.wav", 40, 8000, "", "test", "0" * 64, "a.wav", 0)
    windows = SequentialSegments(ClipReader(tmp_path), [clip], context=8)
    with pretended_gpu():
        sampler = gpu_sampler(num_speakers=0, global_in_channels=0, local=None)

        bits = sampler_bits_per_sample(sampler, sampler.model.distribution, windows)

    assert bits > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"companding": "mu-law-floor"},
        {"input_type": "scalar", "weight_norm": True},
        {"output_distribution": "logistic_mixture", "quantization_channels": 65536},
        {
            "output_distribution": "gaussian_mixture",
            "quantization_channels": 65536,
            "num_mixtures": 1,
            "input_type": "scalar",
        },
    ],
    ids=["categorical", "floor", "scalar", "logistic", "gaussian"],
)
def test_a_sample_on_a_gpu_costs_no_copy_from_the_cpu(options: dict[str, Any]) -> None:
    sampling = SamplingConfig() if "mixture" in str(options) else SamplingConfig(top_k=3, top_p=0.9)
    with pretended_gpu() as gpu:
        sampler = gpu_sampler(**options)
        state = sampler.init_state(2, torch.zeros(2, 9), **START)
        counts = []
        for length in (1, 3):
            gpu.copies.clear()
            sampler.generate_next(state, length, sampling)
            counts.append(sum(gpu.copies.values()))
        sampler.teacher_forced(torch.zeros(2, 20, device=CUDA), **START)

    assert counts[0] == counts[1], gpu.copies


def test_values_of_classes_are_looked_up_without_a_copy() -> None:
    for companding in ("mu-law", "linear"):
        with pretended_gpu() as gpu:
            distribution = gpu_sampler(companding=companding).model.distribution
            gpu.copies.clear()
            distribution.quantize(torch.zeros(2, 5, device=CUDA))

        assert not gpu.copies


def test_a_table_left_on_the_cpu_is_found() -> None:
    """A test of the test: the copies of `ReferenceSampler` before tables moved with the model."""
    with pretended_gpu() as gpu:
        distribution = WaveNet(SMALL).distribution
        distribution.decode(torch.zeros(5, dtype=torch.int64, device=CUDA))

    assert any(place.startswith("blocking cpu->cuda distributions/") for place in gpu.copies)
