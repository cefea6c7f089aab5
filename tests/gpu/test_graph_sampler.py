"""The graph sampler captured on a CUDA device, compared with the reference on the CPU."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures import SMALL, conditions_for
from tests.sampling.graph.test_capture import MODELS, config_of, draws_of
from tests.sampling.parity import assert_same_signal, noisy
from wavenet.model import WaveNet
from wavenet.sampling import GraphSampler, Sampler, SamplerState, make_sampler
from wavenet.sampling.graph.step import PIECE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(model: WaveNet) -> Sampler:
    sampler = make_sampler(copy.deepcopy(model).cuda())
    assert isinstance(sampler, GraphSampler)
    assert sampler.is_captured
    return sampler


class FromGpu(GraphSampler):
    """A sampler on the GPU whose results are on the CPU, to be compared there."""

    def generate(self, *args: Any, **how: Any) -> Tensor:
        return super().generate(*args, **how).cpu()


@pytest.mark.parametrize("name", MODELS)
def test_captured_signals_equal_the_reference_in_float64(name: str) -> None:
    config = config_of(name)
    model = noisy(config).double()
    start: dict[str, Any] = conditions_for(config, 3, 60, torch.float64)
    start["prompt"] = torch.rand(3, 11, dtype=torch.float64) * 2 - 1
    if config.has_global_conditioning:
        start["guidance_scale"] = 2.0
    reference, sampler = make_sampler(model, "reference"), on_gpu(model)

    for sampling in draws_of(config):
        how: dict[str, Any] = {**start, "sampling": sampling}
        signal = reference.generate(37, batch_size=3, **how)
        assert torch.equal(sampler.generate(37, batch_size=3, **how).cpu(), signal)
        chunks = list(sampler.stream(37, chunk=10, batch_size=3, **how))
        assert torch.equal(torch.cat(chunks, dim=1).cpu(), signal)
        ragged = sampler.generate_ragged([37, 2, 19], **how)
        assert torch.equal(ragged[0].cpu(), signal[0])
        assert torch.equal(ragged[2].cpu(), signal[2, :19])


@pytest.mark.parametrize("name", MODELS)
def test_captured_parameters_in_float32_differ_by_rounding(name: str) -> None:
    config = config_of(name)
    model = noisy(config)
    waveform, conditions = torch.rand(2, PIECE + 40) * 2 - 1, conditions_for(config, 2, PIECE + 40)

    params = on_gpu(model).teacher_forced(waveform, **conditions).cpu()

    expected = make_sampler(model, "reference").teacher_forced(waveform, **conditions)
    torch.testing.assert_close(params, expected, rtol=0, atol=1e-4)
    start: dict[str, Any] = conditions_for(config, 1, 60)
    sampler = FromGpu(copy.deepcopy(model).cuda())
    assert_same_signal(sampler, make_sampler(model, "reference"), 60, **start)


def test_states_move_between_the_gpu_and_the_cpu(tmp_path: Path) -> None:
    model = noisy(config_of("conditioned")).double()
    start: dict[str, Any] = conditions_for(model.config, 2, 60, torch.float64)
    reference, sampler = make_sampler(model, "reference"), on_gpu(model)
    whole = reference.generate(60, batch_size=2, **start)

    for first, second in ((sampler, reference), (reference, sampler)):
        state = first.init_state(2, **start)
        pieces = [first.generate_next(state, 23).cpu()]
        state.save(tmp_path / "state")
        loaded = SamplerState.load(tmp_path / "state")
        assert torch.equal(second.generate_next(loaded, 37).cpu(), whole[:, 23:])
        pieces.append(second.generate_next(state, 37).cpu())
        assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_captured_states_that_alternate_do_not_mix() -> None:
    model = noisy(SMALL).double()
    sampler, reference = on_gpu(model), make_sampler(model, "reference")
    states = [sampler.init_state(2, seed=seed) for seed in (0, 5)]
    pieces: list[list[Tensor]] = [[], []]
    for length in (3, 9, 11):
        for state, own in zip(states, pieces, strict=True):
            own.append(sampler.generate_next(state, length).cpu())

    for seed, own in zip((0, 5), pieces, strict=True):
        assert torch.equal(torch.cat(own, dim=1), reference.generate(23, batch_size=2, seed=seed))


def test_many_captures_leave_no_memory_behind() -> None:
    sampler = on_gpu(noisy(SMALL))
    used = []
    for streams in range(1, 80, 2):  # more than torch has streams to capture on
        sampler.generate(9, batch_size=streams)
        sampler.generate(9)
        used.append(torch.cuda.memory_allocated())

    assert max(used[20:]) <= 2 * max(used[:20])
