"""Frames known by their shape alone: a file, a folder or pieces of them, by both samplers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from tests.architectures import SMALL
from tests.commands import Run
from wavenet.checkpoint import load, save
from wavenet.config import AudioConfig, FramesConfig, LocalConfig
from wavenet.generation.inputs import read_frames
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler
from wavenet.utils.dataclass_io import to_dict

RATE, HOP = 8000, 20
FRAMES = FramesConfig(
    sample_rate=RATE,
    hop_length=HOP,
    channels=3,
    description="WORLD features",
    mean=(0.0, 1.0, 2.0),
    std=(1.0, 2.0, 3.0),
)
AUDIO = AudioConfig(sample_rate=RATE, frames=FRAMES)
ARRAY = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> WaveNet:
    """A small model in the folder `model`, and its frames in `frames.npy`."""
    torch.manual_seed(0)
    local = LocalConfig(in_channels=3, channels=4, upsample_scales=(4, 5), lookahead=1)
    model = WaveNet(dataclasses.replace(SMALL, local=local)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    save(model, tmp_path / "model", AUDIO)
    np.save(tmp_path / "frames.npy", ARRAY)
    save_file({"any": torch.from_numpy(ARRAY)}, tmp_path / "frames.safetensors")
    return model


def generated(run: Run, *arguments: str) -> np.ndarray:
    done = run("generate", "checkpoint=model", *arguments, "output=out.wav", "overwrite=true")
    assert done.returncode == 0, done.stderr
    samples: np.ndarray = soundfile.read("out.wav", dtype="float32")[0]
    return samples


@pytest.mark.parametrize("file", ["frames.npy", "frames.safetensors"])
def test_both_samplers_generate_the_same_file_from_frames(
    run: Run, model: WaveNet, file: str
) -> None:
    first, second = (
        generated(run, f"input={file}", f"backend={name}") for name in ("reference", "cpu")
    )

    frames = (torch.from_numpy(ARRAY) - torch.tensor([[0.0], [1], [2]])) / torch.tensor(
        [[1.0], [2], [3]]
    )
    expected = make_sampler(model, "reference").generate(seed=0, local=frames[None])[0]
    assert len(first) == 12 * HOP
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, expected.numpy(), atol=1 / 32768)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_frames_that_come_in_pieces_change_no_bit(
    model: WaveNet, tmp_path: Path, backend: str
) -> None:
    frames, _ = read_frames(tmp_path / "frames.npy", AUDIO, None)
    sampler = make_sampler(model, backend)

    state = sampler.init_state(1, seed=3, local=frames[..., :5], more=True)
    pieces = []
    for first in range(5, 12, 3):
        sampler.push_frames(state, frames[..., first : first + 3], more=first + 3 < 12)
        pieces.append(sampler.generate_next(state, sampler.samples_available(state) or 0))

    assert torch.equal(torch.cat(pieces, dim=1), sampler.generate(seed=3, local=frames))


def test_forward_equals_steps_given_frames(model: WaveNet, tmp_path: Path) -> None:
    frames, _ = read_frames(tmp_path / "frames.npy", AUDIO, None)
    waveform = torch.rand(1, 12 * HOP) * 2 - 1

    stepped = make_sampler(model, "reference").teacher_forced(waveform, local=frames)

    torch.testing.assert_close(stepped, model(waveform, local=frames))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("input=clip.wav",), 2, "conditioned on WORLD features, which clip.wav does not hold"),
        ((), 2, "the model is conditioned on frames: add input=FILE"),
        (("input=turned.npy",), 3, "looks transposed"),
        (("input=narrow.npy",), 3, "has shape (2, 12), expected (3, F), a frame every 20 samples"),
        (("input=nan.npy",), 3, "holds nan in channel 0 of frame 0"),
        (("input=missing.npy",), 3, "missing.npy: no such file or folder"),
        (("input=frames.npy", "mel_preset=r9y9"), 2, "mel_preset is for mel spectrograms"),
        (("input=frames.npy", "seconds=1"), 2, "the input covers 0.03 s"),
    ],
    ids=["wav", "nothing", "transposed", "channels", "nan", "missing", "preset", "too long"],
)
def test_other_inputs_are_refused_in_a_sentence(
    run: Run, model: WaveNet, arguments: tuple[str, ...], code: int, message: str
) -> None:
    soundfile.write("clip.wav", np.zeros(100), RATE)
    np.save("turned.npy", ARRAY.T)
    np.save("narrow.npy", ARRAY[:2])
    np.save("nan.npy", np.full_like(ARRAY, np.nan))

    done = run("generate", "checkpoint=model", *arguments)

    assert done.returncode == code
    assert message in done.stderr
    assert not Path("generated.wav").exists()


def test_a_folder_of_recordings_with_frames_gives_their_frames(run: Run, model: WaveNet) -> None:
    Path("clips").mkdir()
    for name in ("a", "b"):
        soundfile.write(f"clips/{name}.wav", np.zeros(100), RATE)
        np.save(f"clips/{name}.npy", ARRAY)

    done = run("generate", "checkpoint=model", "input=clips", "output=out", "batch_size=2")

    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.wav", "b.wav"]


def test_the_config_of_frames_is_read_as_it_was_written(model: WaveNet, tmp_path: Path) -> None:
    assert load(tmp_path / "model").audio == AUDIO
    assert to_dict(load(tmp_path / "model").audio)["frames"]["std"] == [1.0, 2.0, 3.0]


def test_a_model_without_frames_has_no_key_for_them(tmp_path: Path) -> None:
    save(WaveNet(SMALL), tmp_path / "plain", AudioConfig(sample_rate=RATE))

    assert "frames" not in (tmp_path / "plain" / "config.json").read_text()
