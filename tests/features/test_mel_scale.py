"""Mel files in another scale than the model's."""

import dataclasses
import math

import pytest
import torch

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
