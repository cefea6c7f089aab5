import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wavenet.config import AudioConfig, MelConfig
from wavenet.data.audio import open_wav, read_samples
from wavenet.data.dataset import ClipReader, stack
from wavenet.data.manifest import Clip
from wavenet.features.f0 import compiled_librosa
from wavenet.features.frames import Features
from wavenet.features.mel import LogMel
from wavenet.presets import MEL_PRESETS

Samples = NDArray[np.float32]
SMALL = MelConfig(
    sample_rate=8000, n_fft=256, hop_length=50, win_length=200, n_mels=12, f_min=50.0, f_max=4000.0
)


def write_clip(folder: Path, name: str, samples: Samples) -> Clip:
    with open_wav(folder / name, 8000) as writer:
        writer.write(samples)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return Clip(name, len(samples), 8000, "", "train", digest, name, 0)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Write two clips of noise, one louder; neither is a whole number of hops."""
    generator = np.random.default_rng(1)
    return [
        write_clip(tmp_path, name, (size * generator.standard_normal(frames)).astype(np.float32))
        for name, frames, size in (("soft.wav", 1777, 0.01), ("loud.wav", 1201, 0.1))
    ]


def frames_of(config: MelConfig, samples: Samples) -> torch.Tensor:
    mel: torch.Tensor = LogMel(config)(torch.from_numpy(samples)[None])[0]
    return mel


def librosa_mel(config: MelConfig, samples: Samples) -> NDArray[np.float32]:
    mel: NDArray[np.float32] = compiled_librosa().feature.melspectrogram(
        y=samples,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        window="hann",
        center=True,
        pad_mode=config.pad_mode,
        power=config.power,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        htk=config.mel_scale == "htk",
        norm=None if config.norm == "none" else config.norm,
    )
    return mel


@pytest.mark.parametrize("name", MEL_PRESETS)
def test_every_mel_preset_equals_librosa(name: str, noise: Samples) -> None:
    config = dataclasses.replace(MEL_PRESETS[name], mean=(0.0,), std=(1.0,), clamp=False)
    count = -(-len(noise) // config.hop_length)

    found = frames_of(config, noise)

    log = np.log if config.log_base == "natural" else np.log10
    factor = 20 if config.log_base == "decibel" else 1
    expected = factor * log(np.maximum(librosa_mel(config, noise), config.log_floor))
    assert found.shape == (config.n_mels, count)
    np.testing.assert_allclose(found.numpy(), expected[:, :count], rtol=0, atol=1e-3)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
def test_power_norm_and_scale_equal_librosa(
    power: Any, norm: Any, mel_scale: Any, noise: Samples
) -> None:
    config = dataclasses.replace(SMALL, power=power, norm=norm, mel_scale=mel_scale)

    found = frames_of(config, noise).exp()

    np.testing.assert_allclose(found.numpy(), librosa_mel(config, noise)[:, :-1], rtol=1e-3)


def test_decibels_are_of_magnitude_and_of_energy(noise: Samples) -> None:
    decibels = dataclasses.replace(SMALL, log_base="decibel", log_floor=1e-20)
    energies = dataclasses.replace(decibels, power=2)

    magnitude, energy = frames_of(decibels, noise), frames_of(energies, noise)

    expected = 20 * np.log10(librosa_mel(decibels, noise)[:, :-1])
    np.testing.assert_allclose(magnitude.numpy(), expected, rtol=0, atol=1e-3)
    expected = 10 * np.log10(librosa_mel(energies, noise)[:, :-1])
    np.testing.assert_allclose(energy.numpy(), expected, rtol=0, atol=1e-3)


def test_silence_gives_the_log_floor() -> None:
    config = dataclasses.replace(SMALL, log_base="log10", log_floor=1e-4)

    found = frames_of(config, np.zeros(500, np.float32))

    torch.testing.assert_close(found, torch.full((12, 10), -4.0))


def test_mean_and_std_normalize_and_clamp_limits(noise: Samples) -> None:
    plain = frames_of(SMALL, noise)
    mean, std = (-1.0, 0.0, 1.0) * 4, (2.0, 3.0, 4.0) * 4
    config = dataclasses.replace(SMALL, mean=mean, std=std)

    normalised = frames_of(config, noise)
    clipped = frames_of(dataclasses.replace(config, clamp=True), noise)

    expected = (plain - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None]
    torch.testing.assert_close(normalised, expected)
    torch.testing.assert_close(clipped, normalised.clamp(0, 1))
    assert not torch.equal(clipped, normalised)


@pytest.mark.parametrize("frame", [0, 3, 19])
def test_a_click_is_loudest_in_the_frame_that_is_centred_on_it(frame: int) -> None:
    click = np.zeros(1000, np.float32)
    click[frame * SMALL.hop_length] = 1.0

    loudness = frames_of(SMALL, click).sum(dim=0)

    assert loudness.argmax() == frame
    for distance in (1, 2):
        around = [loudness[f] for f in (frame - distance, frame + distance) if 0 <= f < 20]
        torch.testing.assert_close(max(around), min(around))


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (50, 1), (51, 2), (1000, 20)])
@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_every_sample_has_a_frame(samples: int, frames: int, padding: Any) -> None:
    config = dataclasses.replace(SMALL, pad_mode=padding)

    assert LogMel(config)(torch.zeros(3, samples)).shape == (3, 12, frames)


def test_a_frame_is_the_same_alone_and_in_a_batch(noise: Samples) -> None:
    batch = torch.from_numpy(noise).view(4, 2000)

    together = LogMel(SMALL)(batch)

    for row, mel in zip(batch, together, strict=True):
        torch.testing.assert_close(LogMel(SMALL)(row[None])[0], mel)


@pytest.mark.parametrize("start", [0, 50, 150, 800, 1500, 1750])
@pytest.mark.parametrize("length", [50, 120, 400])
@pytest.mark.parametrize("lookahead", [0, 2])
def test_frames_of_an_excerpt_equal_those_of_the_clip(
    tmp_path: Path, clips: list[Clip], start: int, length: int, lookahead: int
) -> None:
    audio = AudioConfig(sample_rate=8000, mel=SMALL)
    features, clip, first = Features(audio), clips[0], start // SMALL.hop_length
    whole = features.from_recording(read_samples(tmp_path / clip.path)[:, 0])[0]

    item = ClipReader(tmp_path, audio, lookahead).read(clip, start, length)
    local = features(stack([item, item]))["local"]

    count = -(-length // SMALL.hop_length) + lookahead
    within = min(count, whole.shape[1] - first)
    assert local.shape == (2, 12, count)
    torch.testing.assert_close(local[1, :, :within], whole[:, first : first + within])
