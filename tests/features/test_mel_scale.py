"""Mel files in another scale than the model's."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.config import MelConfig
from wavenet.features.mel import LogMel, check_scale, read_mel
from wavenet.pretrained import find_model
from wavenet.sampling import make_sampler
from wavenet.utils.errors import DataError

PLAIN = MelConfig(sample_rate=8000, n_fft=256, hop_length=64, win_length=256, f_max=4000.0)
NORMALIZED = dataclasses.replace(PLAIN, mean=(-6.0,), std=(2.0,))
CLAMPED = dataclasses.replace(PLAIN, log_base="decibel", mean=(-100.0,), std=(100.0,), clamp=True)
EACH = pytest.mark.parametrize(
    "config", [PLAIN, NORMALIZED, CLAMPED], ids=["plain", "normalized", "clamped"]
)


@EACH
@pytest.mark.parametrize("level", [0.0, 1e-3, 1.0])
def test_a_mel_of_any_level_passes(
    config: MelConfig, level: float, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    mel = LogMel(config)(level * (torch.rand(1, 8000) * 2 - 1))[0]

    check_scale(mel, config, "a.npy")

    assert not caplog.records


@EACH
def test_a_power_without_logarithm_is_refused_with_the_convention(config: MelConfig) -> None:
    mel = torch.zeros(80, 3)
    mel[4, 1] = 2546.0  # as librosa.feature.melspectrogram

    with pytest.raises(DataError, match=r"a\.npy: .* logarithm of the magnitude, at least 1e-05, "):
        check_scale(mel, config, "a.npy")


def test_a_mel_past_ten_deviations_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    check_scale(torch.full((80, 3), -12.0), NORMALIZED, "a.npy")

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "a.npy: the mel is up to 12 deviations from the mean" in record.getMessage()
    assert "80 bands of 0 to 4000 Hz" in record.getMessage()


@pytest.mark.parametrize("name", ["demo_voice", "voices_16khz"])
def test_a_mel_in_decibels_is_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = find_model(name)
    model, audio, _ = checkpoint.load(folder)
    config, sampler = audio.mel, make_sampler(model, "reference")
    assert config is not None
    mel = read_mel(folder / "example.safetensors", config)
    mean, std = torch.tensor(config.mean)[:, None], torch.tensor(config.std)[:, None]
    decibels = ((mel * std + mean) * 20 / math.log(10) - mean) / std

    check_scale(mel, config, "a.npy")
    sampler.generate(1, local=mel)

    assert not caplog.records
    with pytest.raises(DataError, match=r"a\.npy: .* the model takes the natural logarithm"):
        check_scale(decibels, config, "a.npy")
    with pytest.raises(ValueError, match=r"local: .* the model takes the natural logarithm"):
        sampler.generate(1, local=decibels)


@pytest.fixture(scope="module", params=["demo_voice", "voices_16khz"])
def shipped(request: pytest.FixtureRequest) -> tuple[Tensor, MelConfig]:
    """A recording's mel as natural logarithms, not normalized, and the model's convention."""
    folder = find_model(request.param)
    config = checkpoint.load(folder).audio.mel
    assert config is not None
    mean, std = torch.tensor(config.mean)[:, None], torch.tensor(config.std)[:, None]
    return read_mel(folder / "example.safetensors", config) * std + mean, config


def normalize(mel: Tensor, config: MelConfig) -> Tensor:
    return (mel - torch.tensor(config.mean)[:, None]) / torch.tensor(config.std)[:, None]


@pytest.mark.parametrize("is_normalized", [False, True])
@pytest.mark.parametrize("power", [1, 2])
def test_values_without_a_logarithm_are_refused(
    shipped: tuple[Tensor, MelConfig], power: int, is_normalized: bool
) -> None:
    logarithms, config = shipped
    energies = (power * logarithms).exp()
    mel = normalize(energies, config) if is_normalized else energies

    with pytest.raises(DataError, match=r"a\.npy: the mel .* without a logarithm: the model"):
        check_scale(mel, config, "a.npy")


def test_a_sampler_refuses_a_power_of_any_item() -> None:
    folder = find_model("demo_voice")
    model, audio, _ = checkpoint.load(folder)
    assert audio.mel is not None
    mel = read_mel(folder / "example.safetensors", audio.mel)
    both = torch.stack([mel, (2 * mel.clamp(max=0.5)).exp() * 1e-3])
    both[1, 0, 0] = 4.0

    with pytest.raises(ValueError, match=r"local: the mel .* as without a logarithm"):
        make_sampler(model, "reference").generate(1, local=both)


def to_unit(logarithms: Tensor) -> Tensor:
    return (logarithms - logarithms.min()) / (logarithms.max() - logarithms.min())


@pytest.mark.parametrize(
    ("change", "is_normalized", "words"),
    [
        (to_unit, False, "lies between 0 and 1"),
        (to_unit, True, "lies between 0 and 1"),
        (lambda x: x / math.log(10), True, "as with the logarithm of a larger base"),
        (lambda x: 1.5 * x, True, "lower than silence"),
    ],
    ids=["unit", "unit-normalized", "log10", "steeper"],
)
def test_another_scale_within_ten_deviations_is_warned_of(
    shipped: tuple[Tensor, MelConfig],
    change: Callable[[Tensor], Tensor],
    is_normalized: bool,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logarithms, config = shipped
    changed = change(logarithms)
    mel = normalize(changed, config) if is_normalized else changed

    check_scale(mel, config, "a.npy")

    assert words in caplog.text
    assert "the model takes the natural logarithm" in caplog.text


@pytest.mark.parametrize("num_frames", [1, 20, 50, None])
@pytest.mark.parametrize("gain_db", [-40.0, 0.0, 20.0])
def test_any_part_of_a_recording_passes_quiet_or_loud(
    shipped: tuple[Tensor, MelConfig],
    num_frames: int | None,
    gain_db: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logarithms, config = shipped
    louder = logarithms + gain_db / 20 * math.log(10)
    mel = normalize(louder.clamp(min=math.log(config.log_floor)), config)

    for start in range(0, mel.shape[1], 25):
        check_scale(mel[:, start : start + (num_frames or mel.shape[1])], config, "a.npy")

    assert not caplog.records


@pytest.mark.parametrize("sound", ["silence", "noise", "tone", "click", "clipped"])
def test_what_is_not_speech_passes(
    shipped: tuple[Tensor, MelConfig], sound: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, config = shipped
    time = torch.arange(2 * config.sample_rate) / config.sample_rate
    tone, noise = torch.sin(2 * math.pi * 440 * time), torch.rand(len(time)) * 2 - 1
    waveforms = {
        "silence": torch.zeros_like(time),
        "noise": noise,
        "tone": 0.9 * tone,
        "click": (time == 1).float(),
        "clipped": (9 * tone * (3 * time).sin() + noise).clamp(-1, 1),
    }

    check_scale(LogMel(config)(waveforms[sound][None])[0], config, "a.npy")

    assert not caplog.records


def test_decibels_are_refused_where_statistics_are_missing() -> None:
    decibels = LogMel(dataclasses.replace(PLAIN, log_base="decibel"))(torch.zeros(1, 800))[0]

    with pytest.raises(DataError, match=r"the model takes the natural logarithm"):
        check_scale(decibels, PLAIN, "a.npy")


def test_sound_in_a_band_that_training_had_empty_is_warned_of_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    quiet = dataclasses.replace(PLAIN, mean=(-11.5,), std=(0.1,))

    check_scale(LogMel(quiet)(torch.rand(1, 800) - 0.5)[0], quiet, "a.npy")

    assert "deviations" in caplog.text
