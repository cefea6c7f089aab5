"""The cuda sampler on a CUDA device, compared with the reference on the CPU."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.architectures import conditions_for, some
from tests.gpu.stand_in.device import cuda_sampler, needs_compiler
from tests.sampling.cuda.test_cuda_sampler import TOLERANCE
from tests.sampling.graph.test_capture import MODELS, config_of, draws_of
from tests.sampling.parity import assert_same_signal, noisy
from wavenet.kernels.cuda.driver import CudaKernels
from wavenet.model import WaveNet
from wavenet.sampling import Sampler, SamplerState, make_sampler
from wavenet.sampling.cuda import CudaSampler
from wavenet.sampling.cuda.cuda_sampler import PIECE
from wavenet.sampling.cuda.task import program

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NAMES = [name for name in MODELS if "past" not in name]


class FromGpu(CudaSampler):
    """A sampler on the GPU whose signals are on the CPU, to be compared there."""

    def generate(self, *args: Any, **how: Any) -> torch.Tensor:
        return super().generate(*args, **how).cpu()


def on_gpu(model: WaveNet, weight_dtype: str = "float32") -> Sampler:
    kernels = program(weight_dtype, predicts=model.predictor is not None)
    kernel = CudaKernels(kernels, torch.device("cuda"))
    return FromGpu(copy.deepcopy(model), kernel, weight_dtype)


@pytest.mark.parametrize("weight_dtype", TOLERANCE)
@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_within_the_stated_tolerance(name: str, weight_dtype: str) -> None:
    config = config_of(name)
    model, length = noisy(config), PIECE + 40
    waveform, conditions = torch.rand(19, length) * 2 - 1, conditions_for(config, 19, length)

    params = on_gpu(model, weight_dtype).teacher_forced(waveform, **conditions).cpu()

    expected = make_sampler(model, "reference").teacher_forced(waveform, **conditions)
    tolerance = TOLERANCE[weight_dtype] * max(1, float(expected.abs().max()))
    torch.testing.assert_close(params, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_signals_equal_the_reference_but_near_a_border(name: str) -> None:
    config = config_of(name)
    model = noisy(config)
    for sampling in draws_of(config):
        start: dict[str, Any] = conditions_for(config, 1, 60)
        start["prompt"] = torch.rand(1, 11) * 2 - 1
        if config.has_global_conditioning:
            start["guidance_scale"] = 2.0
        assert_same_signal(
            on_gpu(model), make_sampler(model, "reference"), 40, sampling=sampling, **start
        )


@needs_compiler
@pytest.mark.parametrize("name", NAMES)
def test_most_draws_equal_those_of_the_stand_in(name: str) -> None:
    model = noisy(config_of(name))
    start: dict[str, Any] = conditions_for(model.config, 21, 60)

    signals = [
        sampler.generate(30, batch_size=21, seed=3, **start)
        for sampler in (on_gpu(model, "bfloat16"), cuda_sampler(model, "bfloat16"))
    ]

    assert float(((signals[0] - signals[1]).abs() < 1e-3).float().mean()) > 0.9


@pytest.mark.parametrize("name", ["conditioned", "predicted"])
@pytest.mark.parametrize("weight_dtype", TOLERANCE)
def test_bits_depend_neither_on_the_batch_nor_on_chunks(weight_dtype: str, name: str) -> None:
    model = noisy(replace(config_of(name), num_speakers=2))
    start: dict[str, Any] = {**conditions_for(model.config, 300, 200), "guidance_scale": 2.0}
    sampler = on_gpu(model, weight_dtype)
    signal = sampler.generate(200, batch_size=300, **start)
    scale = {"guidance_scale": start.pop("guidance_scale")}

    for item in (0, 77, 299):
        own: dict[str, Any] = {**some(start, slice(item, item + 1)), **scale}
        chunks = [chunk.cpu() for chunk in sampler.stream(200, chunk=33, seed=item, **own)]
        assert torch.equal(torch.cat(chunks, dim=1), signal[item : item + 1])


def test_states_move_between_the_gpu_and_the_cpu(tmp_path: Path) -> None:
    model = noisy(config_of("conditioned"))
    start: dict[str, Any] = conditions_for(model.config, 2, 60)
    reference, sampler = make_sampler(model, "reference"), on_gpu(model)
    state = sampler.init_state(2, **start)
    sampler.generate_next(state, 23)
    state.save(tmp_path / "state")

    loaded = SamplerState.load(tmp_path / "state")

    assert torch.equal(
        reference.generate_next(loaded, 1), sampler.generate_next(state.clone(), 1).cpu()
    )
    state = reference.init_state(2, **start)
    reference.generate_next(state, 23)
    expected = reference.generate_next(state.clone(), 1)
    assert torch.equal(sampler.generate_next(state, 1).cpu(), expected)


def test_auto_takes_the_kernel_from_many_streams_on() -> None:
    model = noisy(config_of("classes")).cuda()

    assert make_sampler(model, streams=1).name == "graph"
    assert make_sampler(model, streams=4096).name == "cuda"
    assert make_sampler(model, weight_dtype="bfloat16", streams=4096).name == "cuda"
