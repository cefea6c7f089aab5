"""What every backend does, each in turn."""

import copy
import dataclasses
import inspect
import io
import itertools
import json
import pickle  # noqa: TID251 the test of a pickle
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.architectures import SMALL
from tests.gpu.stand_in.device import BACKENDS_HERE, NO_COMPILER, sampler_here
from wavenet.config import WaveNetConfig
from wavenet.distributions import SamplingConfig
from wavenet.model import WaveNet, WaveNetState
from wavenet.sampling import BACKENDS, Sampler, SamplerState, make_sampler
from wavenet.sampling.arguments import HOW_TO_COMPUTE
from wavenet.sampling.state import uniforms
from wavenet.utils.errors import CheckpointError, ConfigError, MachineError

GREEDY = SamplingConfig(temperature=0)


@pytest.fixture(scope="module")
def model() -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(SMALL)


@pytest.fixture(params=BACKENDS_HERE)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def sampler(model: WaveNet, backend: str) -> Sampler:
    return sampler_here(model, backend)


def test_the_same_seed_gives_the_same_signal_and_another_another(sampler: Sampler) -> None:
    first, again, other = (sampler.generate(50, seed=seed) for seed in (3, 3, 4))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_an_item_does_not_depend_on_its_batch(sampler: Sampler, batch_size: int) -> None:
    prompt = torch.rand(batch_size, 9) * 2 - 1

    batch = sampler.generate(40, batch_size=batch_size, prompt=prompt, seed=5)

    for item in range(batch_size):
        alone = sampler.generate(40, prompt=prompt[item : item + 1], seed=5 + item)
        assert torch.equal(batch[item], alone[0])


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_concatenate_to_the_signal(sampler: Sampler, chunk: int) -> None:
    chunks = list(sampler.stream(40, chunk=chunk, batch_size=2, seed=1))

    assert torch.equal(torch.cat(chunks, dim=1), sampler.generate(40, batch_size=2, seed=1))


def test_a_stream_without_length_has_no_end(sampler: Sampler) -> None:
    stream = sampler.stream(chunk=5)

    assert [next(stream).shape for _ in range(3)] == [(1, 5)] * 3


def test_a_prompt_is_continued_as_if_it_had_been_generated(sampler: Sampler) -> None:
    signal = sampler.generate(60, seed=2)
    noise = uniforms([2], 0, 60)

    rest = sampler.generate(20, prompt=signal[0, :40], noise=noise[:, 40:])

    assert torch.equal(rest, signal[:, 40:])


def test_given_noise_takes_the_place_of_the_seeds(sampler: Sampler) -> None:
    given_noise = sampler.generate(30, noise=uniforms([7], 0, 30))

    assert torch.equal(given_noise, sampler.generate(30, seed=7))


def test_cloned_and_saved_states_continue_equally(sampler: Sampler, tmp_path: Path) -> None:
    state = sampler.init_state(batch_size=2, prompt=torch.rand(6) * 2 - 1, seed=9)
    sampler.generate_next(state, 11)
    clone = state.clone()
    state.save(tmp_path / "state.safetensors")

    expected = sampler.generate_next(state, 13)

    loaded = SamplerState.load(tmp_path / "state.safetensors")
    assert torch.equal(sampler.generate_next(clone, 13), expected)
    assert torch.equal(sampler.generate_next(loaded, 13), expected)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"\x00" * 20)

    with pytest.raises(CheckpointError, match="not a sampler state"):
        SamplerState.load(tmp_path / "state")


@pytest.mark.parametrize("method", ["generate", "generate_ragged", "stream", "generate_next"])
def test_a_temperature_without_its_config_is_refused_with_its_place(
    sampler: Sampler, method: str
) -> None:
    first = {"generate_ragged": [8], "generate_next": sampler.init_state()}.get(method, 8)
    place = r"write sampling=wavenet\.SamplingConfig\(temperature=0\.8\)$"

    with pytest.raises(TypeError, match=rf"^{method}\(\) got .* 'temperature': {place}"):
        getattr(sampler, method)(first, temperature=0.8)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("top_k", r": write sampling=.*\(top_k=1\) where samples are generated$"),
        ("num_threads", r": it is one of wavenet\.make_sampler$"),
        ("seeed", " 'seeed': it takes batch_size, prompt, seed, "),
    ],
)
def test_an_unknown_argument_is_refused_in_the_name_of_the_method(
    sampler: Sampler, name: str, place: str
) -> None:
    given: dict[str, Any] = {name: 1}

    with pytest.raises(TypeError, match=rf"^init_state\(\) got an unexpected .*{place}"):
        sampler.init_state(**given)


@pytest.mark.parametrize("method", ["generate", "generate_ragged", "stream"])
def test_help_describes_every_argument_and_no_other(method: str) -> None:
    shown = getattr(Sampler, method)

    listed = re.findall(
        r"^    (\w[\w, ]*): ", (inspect.getdoc(shown) or "").partition("Args:")[2], re.M
    )

    names = [name for line in listed for name in line.split(", ")]
    assert names == [*inspect.signature(shown).parameters][1:]


def test_the_arguments_of_make_sampler_are_known_by_name() -> None:
    assert {*inspect.signature(make_sampler).parameters} == {"model", *HOW_TO_COMPUTE}


def test_temperature_0_needs_no_noise(sampler: Sampler) -> None:
    one, other = (sampler.generate(40, seed=seed, sampling=GREEDY) for seed in (0, 1))

    assert torch.equal(one, other)


def test_a_sampler_keeps_the_weights_it_was_made_with(backend: str) -> None:
    model = WaveNet(SMALL)
    sampler = sampler_here(model, backend)
    before = sampler.generate(20)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()

    assert torch.equal(sampler.generate(20), before)


def pickled(sampler: Sampler) -> Sampler:
    loaded: Sampler = pickle.loads(pickle.dumps(sampler))  # noqa: S301
    return loaded


def saved_by_torch(sampler: Sampler) -> Sampler:
    file = io.BytesIO()
    torch.save(sampler, file)
    file.seek(0)
    loaded: Sampler = torch.load(file, weights_only=False)  # noqa: TID251 the test of a pickle
    return loaded


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved_by_torch])
def test_a_copy_of_a_used_sampler_gives_its_signal(
    sampler: Sampler, copied: Callable[[Sampler], Sampler]
) -> None:
    expected = sampler.generate(50, seed=1)

    assert torch.equal(copied(sampler).generate(50, seed=1), expected)


def test_threads_may_share_a_sampler(sampler: Sampler) -> None:
    waveform = torch.rand(4, 1, 200) * 2 - 1
    signals = [sampler.generate(200, seed=seed) for seed in range(4)]
    params = [sampler.teacher_forced(one) for one in waveform]

    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda seed: sampler.generate(200, seed=seed), range(4))
        found_params = pool.map(sampler.teacher_forced, waveform)

        assert all(torch.equal(*pair) for pair in zip(found, signals, strict=True))
        assert all(torch.equal(*pair) for pair in zip(found_params, params, strict=True))


def test_sampling_leaves_the_model_as_it_was(backend: str) -> None:
    model = WaveNet(
        WaveNetConfig(quantization_channels=4, dilations=(1,), dropout=0.5, weight_norm=True)
    ).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()

    sampler_here(model, backend).generate(3)

    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.nll(torch.zeros(1, 4)).sum().backward()


def test_length_0_generates_nothing(sampler: Sampler) -> None:
    assert sampler.generate(0, batch_size=2).shape == (2, 0)


def test_unknown_backends_and_weight_dtypes_list_the_known_ones(model: WaveNet) -> None:
    with pytest.raises(ConfigError, match="auto, cuda, cpu, graph, reference"):
        make_sampler(model, "fastest")
    with pytest.raises(ConfigError, match="float32, bfloat16, int8"):
        make_sampler(model, weight_dtype="float16")
    for backend in ("graph", "reference"):
        with pytest.raises(ConfigError, match="use backend=cpu for num_threads=2 \\(pip"):
            make_sampler(model, backend, num_threads=2)


def test_auto_selects_the_fastest_backend(model: WaveNet) -> None:
    assert make_sampler(model).name == "cpu"


def test_finished_item_does_not_change_the_others(sampler: Sampler) -> None:
    prompt = torch.rand(4, 8) * 2 - 1
    whole = sampler.generate(30, batch_size=4, prompt=prompt, seed=2)

    signals = sampler.generate_ragged([30, 11, 0, 20], prompt=prompt, seed=2)

    assert [len(signal) for signal in signals] == [30, 11, 0, 20]
    for signal, expected in zip(signals, whole, strict=True):
        assert torch.equal(signal, expected[: len(signal)])


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(4), "add a batch axis"),
        (torch.zeros(1, 4, dtype=torch.int16), "divide by 32768"),
        (torch.zeros(1, 0), "one sample or more"),
        (torch.tensor([[0.5, torch.nan]]), "first nan at sample 1 of item 0"),
        (torch.tensor([[0.5], [-torch.inf]]), "first -inf at sample 0 of item 1"),
    ],
    ids=["shape", "int16", "empty", "nan", "inf"],
)
def test_teacher_forcing_refuses_a_waveform_in_the_words_of_forward(
    waveform: torch.Tensor, message: str, sampler: Sampler, model: WaveNet
) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        sampler.teacher_forced(waveform)
    with pytest.raises(ValueError, match=f"^{re.escape(str(refusal.value))}$"):
        model(waveform)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell the free memory")
def test_a_batch_beyond_the_memory_is_refused_at_once(sampler: Sampler) -> None:
    message = r"batch_size=1000000000000 needs .*: use a smaller batch_size"
    with pytest.raises(MachineError, match=message):
        sampler.generate(5, batch_size=10**12)
    with pytest.raises(MachineError, match=message):
        next(sampler.stream(5, batch_size=10**12))


def test_a_state_says_the_memory_that_its_streams_take(sampler: Sampler) -> None:
    sizes = [sampler.init_state(items).model.nbytes for items in (16, 32, 48)]

    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]
    _, *queues = sampler.model.new_state(16).queues
    assert sizes[1] - sizes[0] >= sum(queue.nbytes for queue in queues)


def test_a_batch_of_0_items_has_signals_and_parameters_of_0_items(sampler: Sampler) -> None:
    assert sampler.generate(5, batch_size=0).shape == (0, 5)
    assert sampler.teacher_forced(torch.zeros(0, 5)).shape == (0, 16, 5)


def test_teacher_forcing_clamps_a_waveform_to_the_outermost_codes(sampler: Sampler) -> None:
    waveform = torch.tensor([[0.2, 3.0, -1.5, 0.1]])

    params = sampler.teacher_forced(waveform)

    assert torch.equal(params, sampler.teacher_forced(waveform.clamp(-1, 1)))


def test_teacher_forced_parameters_equal_forward(sampler: Sampler, model: WaveNet) -> None:
    waveform = torch.rand(2, 40) * 2 - 1

    with torch.no_grad():
        expected = model(waveform)

    torch.testing.assert_close(sampler.teacher_forced(waveform), expected, rtol=0, atol=1e-5)


def test_saved_state_continues_on_another_backend(model: WaveNet, tmp_path: Path) -> None:
    names = BACKENDS[1:] if NO_COMPILER else BACKENDS
    samplers = [sampler_here(model, name) for name in names]
    whole = samplers[0].generate(40, batch_size=2, prompt=torch.full((5,), 0.3), seed=3)
    for first, second in itertools.permutations(samplers, 2):
        state = first.init_state(2, torch.full((5,), 0.3), seed=3)
        first.generate_next(state, 17)
        state.save(tmp_path / "state")

        rest = second.generate_next(SamplerState.load(tmp_path / "state"), 23)

        assert torch.equal(rest, whole[:, 17:])
        assert torch.equal(second.generate_next(state, 23), whole[:, 17:])


def test_a_state_of_another_model_is_refused(sampler: Sampler) -> None:
    other = make_sampler(
        WaveNet(WaveNetConfig(quantization_channels=16, dilations=(1, 2))), "reference"
    )

    with pytest.raises(ValueError, match="another model's"):
        sampler.generate_next(other.init_state(), 1)


def test_a_state_with_other_conditioning_is_refused(backend: str) -> None:
    speakers = dataclasses.replace(SMALL, num_speakers=3, global_channels=4)
    samplers = [sampler_here(WaveNet(config), backend) for config in (SMALL, speakers)]
    states = [samplers[0].init_state(), samplers[1].init_state(speaker=torch.tensor([1]))]

    for sampler, state in zip(samplers, reversed(states), strict=True):
        with pytest.raises(ValueError, match="another model's: global conditioning of [04]"):
            sampler.generate_next(state, 1)


def test_a_state_of_unequal_batches_is_refused(sampler: Sampler) -> None:
    for change in (
        {"seeds": (1, 2, 3)},
        {"sample": torch.zeros(1)},
        {"model": WaveNet(SMALL).new_state(5)},
    ):
        with pytest.raises(ValueError, match="seeds of [23] items"):
            sampler.generate_next(dataclasses.replace(sampler.init_state(2), **change), 1)


def test_state_with_classes_out_of_range_is_refused(backend: str) -> None:
    model = WaveNet(dataclasses.replace(SMALL, input_kernel_size=3))
    sampler = sampler_here(model, backend)
    state = sampler.init_state()
    state.model = WaveNetState([q.clone() for q in state.model.to_wavenet_state().queues])
    state.model.queues[0][0, 0] = SMALL.quantization_channels

    with pytest.raises(ValueError, match="classes outside"):
        sampler.generate_next(state, 1)


@pytest.mark.parametrize("change", [{"position": -1}, {"num_generated": 2**62}, {"seeds": [1]}])
def test_a_saved_state_of_impossible_numbers_is_refused(
    model: WaveNet, tmp_path: Path, change: dict[str, object]
) -> None:
    state = make_sampler(model, "reference").init_state(2)
    state.save(tmp_path / "state")
    tensors = load_file(tmp_path / "state")
    with safe_open(tmp_path / "state", framework="pt") as file:
        numbers = json.loads(file.metadata()["wavenet.sampler"])
    metadata = {"wavenet.sampler": json.dumps(numbers | change)}
    save_file(tensors, tmp_path / "state", metadata)

    with pytest.raises(CheckpointError, match="not a sampler state"):
        SamplerState.load(tmp_path / "state")


@pytest.mark.parametrize("sample", [torch.nan, 1.5])
def test_a_saved_state_of_an_impossible_sample_is_refused(
    model: WaveNet, tmp_path: Path, sample: float
) -> None:
    state = make_sampler(model, "reference").init_state(2)
    state.sample = torch.tensor([0, sample])
    state.save(tmp_path / "state")

    with pytest.raises(CheckpointError, match="its last samples are not in -1 to 1"):
        SamplerState.load(tmp_path / "state")


def test_state_of_another_dtype_is_converted(model: WaveNet) -> None:
    state = make_sampler(copy.deepcopy(model).double(), "reference").init_state(
        prompt=torch.zeros(9)
    )

    signal = make_sampler(model, "reference").generate_next(state, 5)

    assert signal.dtype == torch.float32


@pytest.mark.parametrize("prompt", [[2.0], [float("nan")], [[0.0], [0.0]]])
def test_invalid_prompt_is_refused(sampler: Sampler, prompt: list[float]) -> None:
    with pytest.raises(ValueError, match="prompt must"):
        sampler.generate(1, prompt=torch.tensor(prompt))


def test_a_signal_never_leaves_its_range(sampler: Sampler) -> None:
    signal = sampler.generate(20, noise=torch.full((1, 20, 1), 1 - 2**-24))

    assert signal.abs().max() <= 1


def test_wrong_noise_and_seeds_are_refused(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match="shape"):
        sampler.generate(5, noise=torch.zeros(1, 4, 1))
    with pytest.raises(ValueError, match=r"noise must be numbers in \[0, 1\), got nan"):
        sampler.generate(1, noise=torch.full((1, 1, 1), torch.nan))
    with pytest.raises(ValueError, match=r"noise must be numbers in \[0, 1\), got 1.0 to 1.0"):
        sampler.generate(1, noise=torch.ones(1, 1, 1))
    with pytest.raises(ValueError, match="one per item"):
        sampler.generate(5, batch_size=2, seed=[1])
    with pytest.raises(ValueError, match="from 0"):
        sampler.generate(5, seed=-1)
    with pytest.raises(ValueError, match="length"):
        sampler.generate(-5)
    with pytest.raises(ValueError, match="chunk"):
        next(sampler.stream(5, chunk=0))
