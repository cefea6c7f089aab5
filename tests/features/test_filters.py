"""What is done to recordings before the model is undone after it, in pieces too."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from wavenet.config import AudioConfig, FilterConfig
from wavenet.data.dataset import ClipReader
from wavenet.data.manifest import read_manifest
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.features.filters import ORDER, SHELF_DB, SignalFilter, build_filter, linear_predictor
from wavenet.utils.errors import ConfigError

RATE = 8000
PREDICTOR = (-1.4, 0.7)
STEPS = {
    "nothing": FilterConfig(),
    "gain": FilterConfig(gain=0.5),
    "high-pass": FilterConfig(low_shelf_hz=70.0),
    "pre-emphasis": FilterConfig(pre_emphasis=0.97),
    "noise shaping": FilterConfig(noise_shaping=0.5, predictor=PREDICTOR),
    "all": FilterConfig(
        gain=0.4, low_shelf_hz=70.0, pre_emphasis=0.85, noise_shaping=0.7, predictor=PREDICTOR
    ),
}


def coloured(seconds: float = 0.5, seed: int = 0) -> Tensor:
    """Noise with most of its power low down, as speech has."""
    white = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    samples = np.zeros_like(white)
    for index in range(2, len(white)):
        samples[index] = white[index] + 1.6 * samples[index - 1] - 0.7 * samples[index - 2]
    return torch.from_numpy((0.5 * samples / np.abs(samples).max()).astype(np.float32))


def level_db(signal_filter: SignalFilter, frequency: float) -> float:
    impulse = torch.zeros(4096, dtype=torch.float64)
    impulse[0] = 1
    z = np.exp(2j * np.pi * frequency / RATE * np.arange(len(impulse)))
    return 20 * float(np.log10(np.abs(signal_filter.apply(impulse).numpy() @ z.conj())))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    for number in range(4):
        samples = coloured(seed=number).numpy()
        soundfile.write(root / f"{number}.wav", samples, RATE, subtype="PCM_16")
    prepared = root.parent / "prepared-shaping"
    prepare_clips(make_plan(root, prepared, PrepareOptions(sample_rate=RATE)))
    return prepared


@pytest.mark.parametrize("config", STEPS.values(), ids=STEPS)
def test_filter_is_inverted_in_chunks_of_any_size(config: FilterConfig) -> None:
    signal_filter, waveform = (
        SignalFilter(config, RATE),
        torch.stack([coloured(), coloured(seed=1)]),
    )
    undone = signal_filter.inverse()

    pieces = torch.split(signal_filter.apply(waveform), [1, 7, 1000, 2992], dim=1)
    back = torch.cat([undone(piece) for piece in pieces], dim=1)

    torch.testing.assert_close(back, waveform, atol=2e-5, rtol=0)


@pytest.mark.parametrize("config", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("start", [0, 3, 2000])
def test_excerpt_is_filtered_like_the_complete_signal(
    config: FilterConfig, start: int, folder: Path
) -> None:
    audio = AudioConfig(sample_rate=RATE, filter=config)
    clip = read_manifest(folder)[0]
    whole = ClipReader(folder, audio).read(clip, 0, clip.frames)["waveform"]

    excerpt = ClipReader(folder, audio).read(clip, start, 500)["waveform"]

    torch.testing.assert_close(excerpt, whole[start : start + 500], atol=1e-7, rtol=0)


def test_the_low_shelf_attenuates_low_frequencies_only() -> None:
    signal_filter = SignalFilter(FilterConfig(low_shelf_hz=70.0), RATE)

    assert level_db(signal_filter, 0) == pytest.approx(-SHELF_DB, abs=0.01)
    assert level_db(signal_filter, 70) == pytest.approx(-3, abs=0.3)
    assert level_db(signal_filter, 3000) == pytest.approx(0, abs=0.3)


def test_pre_emphasis_and_gain_match_their_formula() -> None:
    signal_filter = SignalFilter(FilterConfig(gain=0.5, pre_emphasis=0.97), RATE)

    assert signal_filter.apply(torch.eye(3)[0]).tolist() == pytest.approx([0.5, -0.485, 0])
    assert signal_filter.memory == 1


def test_the_predictor_solves_the_normal_equations() -> None:
    signal = coloured(seconds=2.0).double()
    power = torch.fft.rfft(signal, 2 * len(signal)).abs().square()
    r = torch.fft.irfft(power)[: ORDER + 1]
    toeplitz = torch.stack([r[(torch.arange(ORDER) - row).abs()] for row in range(ORDER)])

    expected = torch.linalg.solve(toeplitz, -r[1:])

    assert linear_predictor(r) == pytest.approx(expected.tolist(), abs=1e-4)


def test_predictor_of_silence_is_zero() -> None:
    assert linear_predictor(torch.zeros(ORDER + 1)) == pytest.approx([0.0] * ORDER)


def test_signal_without_filters_is_unchanged() -> None:
    signal_filter, waveform = build_filter(AudioConfig()), coloured()[None]

    assert signal_filter.memory == 0
    assert signal_filter.apply(waveform) is not None
    assert torch.equal(signal_filter.apply(waveform), waveform)
    assert torch.equal(signal_filter.inverse()(waveform), waveform)


def test_a_corner_above_half_the_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="low_shelf_hz must be under 4000"):
        SignalFilter(FilterConfig(low_shelf_hz=5000.0), RATE)
