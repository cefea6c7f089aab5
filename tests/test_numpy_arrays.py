"""NumPy arrays where tensors are expected."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet import MelConsistency, SamplingConfig, make_sampler
from wavenet.config import LocalConfig, MelConfig, WaveNetConfig
from wavenet.distributions import Categorical, Distribution, GaussianMixture
from wavenet.features.mel import LogMel, read_mel, write_mel
from wavenet.model import WaveNet
from wavenet.sampling import Sampler

HOP, LENGTH = 4, 40
MEL = MelConfig(sample_rate=8000, n_fft=64, hop_length=16, win_length=64, n_mels=8, f_max=4000.0)


def array(tensor: Tensor, dtype: str = "float64") -> NDArray[Any]:
    values: NDArray[Any] = tensor.numpy().astype(dtype)
    values.setflags(write=False)
    return values


@pytest.fixture
def model() -> WaveNet:
    torch.manual_seed(0)
    local = LocalConfig(in_channels=3, channels=4, upsample_scales=(HOP,))
    config = WaveNetConfig(
        dilations=(1, 2),
        residual_channels=4,
        skip_channels=4,
        local=local,
        num_speakers=2,
        global_channels=2,
    )
    return WaveNet(config).eval()


@pytest.fixture
def sampler(model: WaveNet) -> Sampler:
    return make_sampler(model, "reference")


@pytest.fixture
def inputs() -> dict[str, Any]:
    torch.manual_seed(1)
    return {"local": torch.randn(2, 3, LENGTH // HOP), "speaker": torch.tensor([0, 1])}


def arrays(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"local": array(inputs["local"]), "speaker": inputs["speaker"].numpy()}


@pytest.mark.parametrize("method", ["forward", "nll", "__call__"])
def test_a_model_takes_arrays(model: WaveNet, inputs: dict[str, Any], method: str) -> None:
    waveform = torch.rand(2, LENGTH) * 2 - 1

    found = getattr(model, method)(array(waveform), **arrays(inputs))

    assert torch.equal(found, getattr(model, method)(waveform, **inputs))


def test_types_of_arrays_are_those_of_the_signatures(model: WaveNet, sampler: Sampler) -> None:
    # mypy reads these calls too: without Any between, an argument must be declared as an array.
    frames: NDArray[np.float32] = np.zeros((1, 3, LENGTH // HOP), np.float32)
    speaker: NDArray[np.int64] = np.zeros(1, np.int64)
    waveform: NDArray[np.float64] = np.zeros((1, LENGTH))

    loss = model.nll(waveform, local=frames, speaker=speaker)
    params = sampler.teacher_forced(waveform, local=frames, speaker=speaker)
    signal = sampler.generate(prompt=waveform[:, :8], local=frames, speaker=speaker, seed=speaker)
    chunks = [*sampler.stream(local=frames, speaker=speaker, seed=speaker)]

    assert loss.shape == (1, LENGTH)
    assert params.shape[2] == LENGTH
    assert signal.shape == (1, LENGTH - 8)
    assert torch.cat(chunks, dim=1).shape == (1, LENGTH)


def test_a_sampler_takes_arrays(sampler: Sampler, inputs: dict[str, Any]) -> None:
    prompt, noise = torch.rand(2, 8) * 2 - 1, torch.rand(2, LENGTH - 8, 1)
    expected = sampler.generate(batch_size=2, prompt=prompt, noise=noise, **inputs)
    start: dict[str, Any] = {"prompt": array(prompt), **arrays(inputs)}

    found = sampler.generate(batch_size=2, noise=array(noise), **start)

    assert torch.equal(found, expected)


def test_seeds_and_a_stream_take_arrays(sampler: Sampler, inputs: dict[str, Any]) -> None:
    expected = sampler.generate(batch_size=2, seed=[7, 9], **inputs)
    start: dict[str, Any] = {"seed": np.array([7, 9]), **arrays(inputs)}

    pieces = [*sampler.stream(chunk=16, batch_size=2, **start)]

    assert torch.equal(torch.cat(pieces, dim=1), expected)


def test_frames_are_pushed_as_arrays(sampler: Sampler, inputs: dict[str, Any]) -> None:
    expected = sampler.generate(batch_size=2, **inputs)
    local = inputs["local"]
    state = sampler.init_state(2, local=local[..., :4], speaker=inputs["speaker"], more=True)

    sampler.push_frames(state, array(local[..., 4:]), more=False)

    assert torch.equal(sampler.generate_next(state, LENGTH), expected)


def test_teacher_forcing_takes_arrays(sampler: Sampler, inputs: dict[str, Any]) -> None:
    waveform = torch.rand(2, LENGTH) * 2 - 1

    found = sampler.teacher_forced(array(waveform), **arrays(inputs))

    assert torch.equal(found, sampler.teacher_forced(waveform, **inputs))


def test_a_mel_and_its_consistency_take_arrays() -> None:
    waveform, mel = torch.rand(1, 320) - 0.5, LogMel(MEL)
    frames, consistency = mel(waveform), MelConsistency(MEL)

    found = mel(array(waveform, ">f4"))
    closer = consistency(array(waveform), array(frames))

    assert torch.equal(found, frames)
    assert torch.equal(closer, consistency(waveform, frames))


def test_a_mel_file_is_written_of_an_array(tmp_path: Path) -> None:
    path, frames = tmp_path / "mel.safetensors", torch.randn(8, 5)

    write_mel(path, array(frames), MEL)

    assert torch.equal(read_mel(path, MEL), frames)


@pytest.mark.parametrize(
    "distribution", [Categorical(16), Categorical(16, "linear"), GaussianMixture(1)]
)
def test_a_distribution_takes_arrays(distribution: Distribution) -> None:
    waveform, params = torch.rand(2, 8) * 2 - 1, torch.randn(2, distribution.num_params, 8)

    codes = distribution.encode(array(waveform))
    nll = distribution.nll(array(params), array(waveform))

    assert torch.equal(codes, distribution.encode(waveform))
    assert torch.equal(distribution.decode(array(codes, "uint16")), distribution.decode(codes))
    assert torch.equal(nll, distribution.nll(params, waveform))


def test_codes_of_bytes_are_no_mask() -> None:
    codes = np.array([0, 1, 255], np.uint8)

    assert torch.equal(Categorical().decode(codes), Categorical().decode(codes.astype(np.int64)))


def test_codes_that_are_no_whole_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"codes must be whole numbers, got .*float32"):
        Categorical().decode(np.zeros(3))


def test_an_array_of_whole_numbers_is_no_waveform(model: WaveNet) -> None:
    with pytest.raises(ValueError, match="divide by 32768"):
        model(np.zeros((1, 8), np.int16))


def test_an_array_of_long_doubles_is_one_of_floats(model: WaveNet, inputs: dict[str, Any]) -> None:
    waveform = torch.rand(2, LENGTH) * 2 - 1

    assert torch.equal(model(array(waveform, "longdouble"), **inputs), model(waveform, **inputs))


NO_NUMBERS = {
    "list": [[0.0] * 8],
    "ragged list": [[0.0], [0.0, 0.0]],
    "number": np.float64(0.5),
    "text": "a.wav",
    "array of objects": np.array([[0.0], None], object),
    "array of text": np.array([["0.0"]]),
    "array of booleans": np.zeros((1, 8), bool),
    "complex array": np.zeros((1, 8), complex),
    "complex tensor": torch.zeros(1, 8, dtype=torch.complex64),
}


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("name", ["waveform", "prompt", "local", "speaker", "noise"])
def test_what_is_no_array_of_numbers_is_refused(sampler: Sampler, name: str, value: Any) -> None:
    local: Any = np.zeros((1, 3, LENGTH // HOP))
    call = sampler.generate

    with pytest.raises(ValueError, match=rf"{name} must be a tensor or .* of numbers, got \S"):
        sampler.model(value) if name == "waveform" else call(**{"local": local, name: value})


@pytest.mark.parametrize(
    "seed",
    [
        *(1.5, np.float64(1.0), True, np.bool_(True), "7", b"7", None, [1.5], [[1, 2], [3]], {}),
        *(np.array([1.0]), np.array([None]), np.array(["7"]), np.array([True]), np.array([[1]])),
    ],
    ids=repr,
)
def test_a_seed_that_is_no_whole_number_is_refused(sampler: Sampler, seed: Any) -> None:
    with pytest.raises(
        ValueError, match=r"seed must be a whole number from 0 to 2\*\*64 - 1, .* got"
    ):
        sampler.init_state(1, seed=seed, more=True)


@pytest.mark.parametrize("value", [1.5, True, np.array([1.5]), "1", None], ids=repr)
def test_a_count_that_is_no_whole_number_is_refused(sampler: Sampler, value: Any) -> None:
    state = sampler.init_state(1, more=True)

    with pytest.raises(ValueError, match="batch_size must be a whole number, got"):
        sampler.init_state(value)
    with pytest.raises(ValueError, match="length must be a whole number, got"):
        sampler.generate_next(state, value)
    with pytest.raises(ValueError, match="chunk must be a whole number, got"):
        next(sampler.stream(8, chunk=value))
    with pytest.raises(ValueError, match="lengths must be"):
        sampler.generate_ragged(value)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 10**400])
def test_a_guidance_scale_that_is_not_finite_is_refused(sampler: Sampler, value: float) -> None:
    shown = "inf" if value > 1 else str(value)

    with pytest.raises(ValueError, match=f"guidance_scale must be a finite number, got {shown}$"):
        sampler.init_state(1, guidance_scale=value, more=True)


@pytest.mark.parametrize("value", ["1", None, np.array([1.0]), True], ids=repr)
@pytest.mark.parametrize("name", ["temperature", "probability_floor"])
def test_what_is_no_number_is_refused(sampler: Sampler, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="guidance_scale must be a number, got"):
        sampler.init_state(1, guidance_scale=value, more=True)
    with pytest.raises(ValueError, match=f"{name} must be a number, got"):
        SamplingConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("local", (3, 3, 10)), ("speaker", (3,)), ("speaker", (0,)), ("local", (3,))],
)
def test_conditioning_of_another_batch_is_refused(
    sampler: Sampler, inputs: dict[str, Any], name: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        sampler.init_state(2, **{**inputs, name: np.zeros(shape, int)})


def test_a_vector_of_another_width_is_refused_in_its_own_shape() -> None:
    config = WaveNetConfig(dilations=(1,), global_channels=4, global_in_channels=5)
    sampler = make_sampler(WaveNet(config), "reference")

    with pytest.raises(ValueError, match=r"^vector must be \(2, 5\), got \(2, 4\)$"):
        sampler.init_state(2, vector=np.zeros((2, 4)))


def test_frames_and_a_prompt_of_another_shape_are_refused_in_words(sampler: Sampler) -> None:
    state = sampler.init_state(2, more=True)

    for shape in ((1, 3, 4), (2, 3, 4, 1)):
        with pytest.raises(ValueError, match=r"^frames must be \(2, 3, F\), got \("):
            sampler.push_frames(state, np.zeros(shape))
    with pytest.raises(ValueError, match=r"shape \(T,\) or \(1, T\), got \(2, 8\)$"):
        sampler.init_state(1, prompt=np.zeros((2, 8)), more=True)


@pytest.mark.parametrize("name", ["waveform", "prompt", "local", "speaker"])
@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (torch.zeros(1, 8, device="meta"), "must have values, got a tensor on the meta device"),
        (torch.zeros(1, 8).to_sparse(), "must be a dense tensor, got torch.sparse_coo"),
    ],
)
def test_a_tensor_without_values_of_its_own_is_refused(
    sampler: Sampler, name: str, tensor: Tensor, sentence: str
) -> None:
    local: Any = np.zeros((1, 3, LENGTH // HOP))
    call = sampler.generate

    with pytest.raises(ValueError, match=f"^{name} {sentence}"):
        sampler.model(tensor) if name == "waveform" else call(**{"local": local, name: tensor})


@pytest.mark.parametrize(
    "speaker", [1, np.int64(1), *(np.array([1, 1], f"u{size}") for size in (1, 2, 4, 8))]
)
def test_a_speaker_may_be_one_number_or_unsigned(
    sampler: Sampler, inputs: dict[str, Any], speaker: Any
) -> None:
    start = {"batch_size": 2, "local": inputs["local"]}

    signal = sampler.generate(speaker=speaker, **start)

    assert torch.equal(signal, sampler.generate(speaker=torch.tensor([1, 1]), **start))


def test_double_precision_noise_next_to_one_is_not_rounded_to_it(sampler: Sampler) -> None:
    start: dict[str, Any] = {"local": np.zeros((1, 3, 1))}
    below = np.full((1, HOP, 1), 1 - 2.0**-40)

    found = sampler.generate(noise=below, **start)

    assert torch.equal(found, sampler.generate(noise=below.clip(max=1 - 2.0**-24), **start))


def test_a_mel_of_whole_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="divide by 32768"):
        LogMel(MEL)(np.zeros((1, 320), np.int16))
    with pytest.raises(ValueError, match=r"waveform must be \(B, T\), got \(320,\)"):
        LogMel(MEL)(np.zeros(320))


def test_a_reversed_view_is_an_array_like_any_other(model: WaveNet, inputs: dict[str, Any]) -> None:
    waveform = np.linspace(-0.5, 0.5, 2 * LENGTH, dtype="f4").reshape(2, LENGTH)

    reversed_view = model(waveform[:, ::-1], **inputs)

    assert torch.equal(reversed_view, model(waveform[:, ::-1].copy(), **inputs))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_conditioning_that_is_not_finite_is_refused_by_name(
    sampler: Sampler, inputs: dict[str, Any], value: float
) -> None:
    local = inputs["local"].clone()
    local[1, 2, 5] = value
    state = sampler.init_state(2, speaker=inputs["speaker"], more=True)

    for call in (sampler.generate, sampler.init_state):
        with pytest.raises(ValueError, match=r"^local must be finite, got \(2, 3, 10\) with NaN"):
            call(batch_size=2, local=local)
    with pytest.raises(ValueError, match="^frames must be finite"):
        sampler.push_frames(state, local)
