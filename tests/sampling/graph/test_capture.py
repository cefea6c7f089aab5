"""What a capture as a CUDA graph needs, shown without a GPU.

On a pretended CUDA device, no operation of a sample asks for a number, mixes devices or copies from
one to the other. And with graphs that record the operations of a sample and repeat them on the same
tensors, which is what CUDA graphs do, the signal is the reference's: nothing that differs from
sample to sample is on the host.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from tests.architectures import SMALL, conditions_for
from tests.pretend import CUDA, pretended_gpu, to_gpu
from tests.sampling.parity import noisy
from wavenet.config import LocalConfig, MelConfig, PredictorConfig, WaveNetConfig
from wavenet.distributions import SamplingConfig
from wavenet.sampling import GraphSampler, make_sampler
from wavenet.sampling.graph.graph_state import Layout
from wavenet.sampling.graph.weights import pack_weights

LOCAL = LocalConfig(in_channels=3, channels=4, upsample_scales=(2, 3))
MEL = MelConfig(
    sample_rate=8000, n_fft=64, hop_length=6, win_length=48, n_mels=3, f_max=4000.0, mean=(-2.0,)
)
PREDICTED = {"local": LOCAL, "predictor": PredictorConfig(order=5, subframes=2, mel=MEL)}
MODELS: dict[str, dict[str, Any]] = {
    "classes": {"quantization_channels": 16},
    "logistics": {"output_distribution": "logistic_mixture", "input_type": "scalar"},
    "gaussians": {"output_distribution": "gaussian_mixture", "input_kernel_size": 3},
    "single-gaussian": {"output_distribution": "gaussian_mixture", "num_mixtures": 1},
    "three-taps": {"quantization_channels": 16, "kernel_size": 3, "input_kernel_size": 2},
    "one-tap": {"quantization_channels": 16, "kernel_size": 1},
    "predicted": {"output_distribution": "logistic_mixture", "input_type": "mu-law", **PREDICTED},
    "predicted-scalar": {
        "output_distribution": "gaussian_mixture",
        "input_type": "scalar",
        "input_kernel_size": 2,
        **PREDICTED,
    },
    "predicted-from-the-past": {
        "output_distribution": "gaussian_mixture",
        "predictor": PredictorConfig(source="past", order=5, window_length=16, interval=4),
    },
    "conditioned": {"quantization_channels": 16, "local": LOCAL, "num_speakers": 2},
}
SOME = ("classes", "logistics", "predicted-scalar", "predicted-from-the-past", "conditioned")
ASKED = MODELS if "WAVENET_FULL" in os.environ else SOME
DRAWS = {
    "plain": SamplingConfig(),
    "likeliest": SamplingConfig(temperature=0),
    "truncated": SamplingConfig(temperature=0.8, top_k=5, top_p=0.9),
}


def config_of(name: str) -> WaveNetConfig:
    options = MODELS[name]
    if "output_distribution" in options:
        options = {"quantization_channels": 65536, **options}
    sizes = {"dilations": (1, 2, 4), "residual_channels": 4, "gate_channels": 6}
    return WaveNetConfig(**{**sizes, "skip_channels": 5, "head_channels": 5, **options})


def draws_of(config: WaveNetConfig) -> list[SamplingConfig]:
    is_categorical = config.output_distribution == "categorical"
    return [draw for name, draw in DRAWS.items() if is_categorical or name != "truncated"]


def gpu_sampler(config: WaveNetConfig) -> GraphSampler:
    """A sampler that is moved to the pretended device, where nothing can be captured."""
    with unset_fake_temporarily():
        sampler = GraphSampler(noisy(config))
    to_gpu(sampler.model)
    sampler.weights = pack_weights(sampler.model)
    sampler.layout = Layout(sampler.model, sampler.weights.skip)
    return sampler


@pytest.mark.parametrize("name", ASKED)
def test_a_sample_asks_a_pretended_gpu_nothing(name: str) -> None:
    config = config_of(name)
    start: dict[str, Any] = conditions_for(config, 2, 60)
    guided = {**start, "guidance_scale": 2.0 if config.has_global_conditioning else 1.0}
    with pretended_gpu() as gpu:
        sampler = gpu_sampler(config)
        for sampling in [*draws_of(config), None]:
            state = sampler.init_state(2, torch.zeros(2, 9), **(guided if sampling else start))
            if sampling is None:
                result = sampler.teacher_forced(torch.zeros(2, 7), **start)
            else:
                result = sampler.generate_next(state, 2, sampling)
            step, model_state = sampler._steps[-1], sampler._graph_state(state)
            step.load(model_state, torch.zeros(step.streams, dtype=torch.int64, device=CUDA), None)
            gpu.syncs.clear()
            gpu.copies.clear()
            step.advance(3)
            assert (result.device.type, gpu.syncs, gpu.copies) == ("cuda", {}, {})


def test_a_check_in_the_draw_is_found_on_the_pretended_gpu() -> None:
    """A test of the test: `sample` looks at its parameters, `draw` does not."""
    with pretended_gpu() as gpu:
        distribution = gpu_sampler(SMALL).distribution
        logits, noise = torch.zeros(2, 16, device=CUDA), torch.zeros(2, 1, device=CUDA)
        gpu.syncs.clear()
        distribution.draw(logits, noise, SamplingConfig())
        assert not gpu.syncs
        distribution.sample(logits, noise, SamplingConfig())

    assert gpu.syncs


class RecordedGraph:
    """The operations of a block of code, to be repeated on the same tensors."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        for operation, args, kwargs, results in self.operations:
            again = operation(*args, **kwargs)
            for result, new in zip(tree_iter(results), tree_iter(again), strict=True):
                if result is not new and result.data_ptr() != new.data_ptr():
                    result.copy_(new)


def storages(tensors: Any) -> set[int]:
    """Where the memory of tensors begins."""
    flat = [x for x in tree_iter(tensors) if isinstance(x, Tensor)]
    return {x.untyped_storage().data_ptr() for x in flat}


class Recording(TorchDispatchMode):
    """Records all operations; views stay views of the tensors that they were recorded with."""

    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        if not (func.is_view and storages(results) <= storages(args)):  # `to` may copy
            self.graph.operations.append((func, args, kwargs or {}, results))
        return results


class Stream:
    """A stream of a device that does everything at once."""

    def wait_stream(self, stream: "Stream") -> None:
        pass

    def synchronize(self) -> None:
        pass


@pytest.fixture
def recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put recorded graphs in the place of CUDA's."""

    @contextlib.contextmanager
    def graph(recorded: RecordedGraph, **options: Any) -> Iterator[None]:
        with Recording(recorded):
            yield

    fakes = {"CUDAGraph": RecordedGraph, "graph": graph, "Stream": Stream}
    fakes |= {"stream": contextlib.nullcontext, "device": contextlib.nullcontext}
    fakes["current_stream"] = lambda device=None: Stream()
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)


def captured_sampler(model: Any) -> GraphSampler:
    sampler = make_sampler(model, "graph")
    assert isinstance(sampler, GraphSampler)
    sampler.is_captured = True
    return sampler


@pytest.mark.usefixtures("recorded_graphs")
@pytest.mark.parametrize("name", MODELS)
def test_recorded_graphs_give_the_signal_of_the_reference(name: str) -> None:
    config = config_of(name)
    model = noisy(config).double()
    start: dict[str, Any] = conditions_for(config, 3, 60, torch.float64)
    start["prompt"] = torch.rand(3, 11, dtype=torch.float64) * 2 - 1
    if config.has_global_conditioning:
        start["guidance_scale"] = 2.0
    reference, sampler = make_sampler(model, "reference"), captured_sampler(model)

    for sampling in draws_of(config):
        how: dict[str, Any] = {**start, "batch_size": 3, "sampling": sampling}
        signal = reference.generate(23, **how)
        assert torch.equal(sampler.generate(23, **how), signal)
        chunks = list(sampler.stream(23, chunk=10, **how))
        assert torch.equal(torch.cat(chunks, dim=1), signal)
        given = {key: value for key, value in how.items() if key != "batch_size"}
        ragged = sampler.generate_ragged([23, 2, 14], **given)
        assert torch.equal(ragged[0], signal[0])
        assert torch.equal(ragged[2], signal[2, :14])


@pytest.mark.usefixtures("recorded_graphs")
def test_states_that_share_a_graph_do_not_mix() -> None:
    model = noisy(SMALL).double()
    sampler, reference = captured_sampler(model), make_sampler(model, "reference")
    states = [sampler.init_state(2, seed=seed) for seed in (0, 5)]
    pieces: list[list[Tensor]] = [[], []]
    for length in (3, 9, 11):
        for state, own in zip(states, pieces, strict=True):
            own.append(sampler.generate_next(state, length))

    for seed, own in zip((0, 5), pieces, strict=True):
        assert torch.equal(torch.cat(own, dim=1), reference.generate(23, batch_size=2, seed=seed))


@pytest.mark.usefixtures("recorded_graphs")
def test_a_smaller_batch_uses_a_graph_that_is_there() -> None:
    model = noisy(SMALL).double()
    sampler = captured_sampler(model)
    first = sampler.generate(20, batch_size=4)
    (step,) = sampler._steps

    assert torch.equal(sampler.generate(20, batch_size=2), first[:2])
    assert sampler._steps == [step]
    assert torch.equal(sampler.generate(20), first[:1])
    assert len(sampler._steps) == 2
