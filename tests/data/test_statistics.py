import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from tests.features.test_filters import RATE, coloured
from wavenet.config import AudioConfig, FilterConfig, MelConfig
from wavenet.data.audio import open_wav, read_samples
from wavenet.data.manifest import Clip, read_manifest
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.data.statistics import LEAST_STD, with_mel_statistics, with_predictor
from wavenet.features.filters import SignalFilter
from wavenet.features.mel import LogMel
from wavenet.utils.errors import ConfigError, DataError

Samples = NDArray[np.float32]
SMALL = MelConfig(
    sample_rate=8000, n_fft=256, hop_length=50, win_length=200, n_mels=12, f_min=50.0, f_max=4000.0
)


def write_clip(folder: Path, name: str, samples: Samples) -> Clip:
    with open_wav(folder / name, 8000) as writer:
        writer.write(samples)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return Clip(name, len(samples), 8000, "", "train", digest, name, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    for number in range(4):
        samples = coloured(seed=number).numpy()
        soundfile.write(root / f"{number}.wav", samples, RATE, subtype="PCM_16")
    prepared = root.parent / "prepared-coloured"
    prepare_clips(make_plan(root, prepared, PrepareOptions(sample_rate=RATE)))
    return prepared


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


def test_statistics_normalize_each_band(tmp_path: Path, clips: list[Clip]) -> None:
    config = with_mel_statistics(tmp_path, clips, SMALL)

    frames = [frames_of(config, read_samples(tmp_path / clip.path)[:, 0]) for clip in clips]

    every = torch.cat(frames, dim=1)
    assert len(config.mean) == len(config.std) == SMALL.n_mels
    torch.testing.assert_close(every.mean(dim=1), torch.zeros(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(every.std(dim=1, correction=0), torch.ones(12), atol=1e-4, rtol=0)


def test_constant_band_gets_the_minimum_deviation(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, "silence.wav", np.zeros(500, np.float32))

    config = with_mel_statistics(tmp_path, [clip], SMALL)

    assert config.std == (LEAST_STD,) * 12
    assert frames_of(config, np.zeros(500, np.float32)).abs().max() < 0.1


def test_statistics_are_kept_in_the_folder(tmp_path: Path, clips: list[Clip]) -> None:
    measured = with_mel_statistics(tmp_path, clips, SMALL)
    for clip in clips:
        (tmp_path / clip.path).unlink()

    already_normalised = dataclasses.replace(SMALL, mean=(3.0,), std=(4.0,))
    assert with_mel_statistics(tmp_path, clips, SMALL) == measured
    assert with_mel_statistics(tmp_path, clips[::-1], already_normalised) == measured
    assert len(list(tmp_path.glob("mel-*.json"))) == 1


def test_statistics_of_other_mel_parameters_or_clips_are_recomputed(
    tmp_path: Path, clips: list[Clip]
) -> None:
    first = with_mel_statistics(tmp_path, clips, SMALL)

    others = [
        with_mel_statistics(tmp_path, clips[:1], SMALL),
        with_mel_statistics(tmp_path, clips, dataclasses.replace(SMALL, power=2)),
    ]

    assert first.mean not in [other.mean for other in others]
    assert others[0].mean < first.mean  # the softer clip alone
    assert len(list(tmp_path.glob("mel-*.json"))) == 3


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"mean": [1.0]}', '{"mean": 1, "std": 2}', '{"mean": [0, 0], "std": [1, 1]}'],
)
def test_damaged_statistics_are_a_data_error(tmp_path: Path, clips: list[Clip], text: str) -> None:
    with_mel_statistics(tmp_path, clips, SMALL)
    (path,) = tmp_path.glob("mel-*.json")
    path.write_text(text)

    with pytest.raises(DataError, match=rf"{path.name} does not hold the mel statistics: remove"):
        with_mel_statistics(tmp_path, clips, SMALL)


@pytest.mark.parametrize(("name", "bad"), [("mean", "a"), ("mean", np.nan), ("std", -1.0)])
def test_nonfinite_statistics_are_a_data_error(
    tmp_path: Path, clips: list[Clip], name: str, bad: Any
) -> None:
    with_mel_statistics(tmp_path, clips, SMALL)
    (path,) = tmp_path.glob("mel-*.json")
    good = {"mean": [0.0] * 12, "std": [1.0] * 12}
    path.write_text(json.dumps({**good, name: [*good[name][1:], bad]}))

    with pytest.raises(DataError, match="does not hold the mel statistics"):
        with_mel_statistics(tmp_path, clips, SMALL)


def test_noise_shaping_gives_white_noise_the_spectrum_of_the_audio(folder: Path) -> None:
    audio = AudioConfig(sample_rate=RATE, filter=FilterConfig(noise_shaping=1.0))
    clips = read_manifest(folder)
    signal_filter = SignalFilter(with_predictor(folder, clips, audio), RATE)

    white = torch.randn(1, 40000, generator=torch.Generator().manual_seed(0)) / 1000
    noise = signal_filter.inverse()(white)[0]

    bands = [
        torch.stft(x, 64, window=torch.hann_window(64), return_complex=True).abs().log().mean(1)
        for x in (noise, coloured(seconds=5.0, seed=9))
    ]
    difference = bands[0] - bands[1]
    assert float((difference - difference.mean()).abs().max()) < 0.35
    assert float(bands[1].max() - bands[1].min()) > 3


def test_filters_that_clip_are_refused_with_a_gain_that_does_not(folder: Path) -> None:
    audio = AudioConfig(sample_rate=RATE, filter=FilterConfig(gain=4.0))

    with pytest.raises(ConfigError, match=r"peak of 2, past 1\.0: set audio.filter.gain to 1\.9,"):
        with_predictor(folder, read_manifest(folder), audio)


def test_filters_that_leave_silence_are_refused_with_a_better_gain(
    folder: Path,
) -> None:
    audio = AudioConfig(sample_rate=RATE, filter=FilterConfig(gain=0.01))

    with pytest.raises(ConfigError, match=r"peak of 0\.005, lost.*audio.filter.gain to 1\.9,"):
        with_predictor(folder, read_manifest(folder), audio)
