import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.distributions import Categorical, Distribution, LogisticMixture
from wavenet.evaluation.baselines import griffin_lim, quantized
from wavenet.evaluation.metrics import (
    Original,
    ResynthesisMetrics,
    detect_onsets,
    mean_metrics,
    mel_cepstral_distortion,
    onset_f_measure,
    pesq,
    score_onsets,
    stft_distance,
    stoi,
)
from wavenet.features.filters import build_filter
from wavenet.features.mel import LogMel
from wavenet.features.score import Note
from wavenet.presets import MEL_PRESETS

Samples = NDArray[np.float32]
ONSET_RATE = 8000
STARTS = (0.5, 1.0, 1.35, 2.1, 2.5)
NO_FILTER = build_filter(None)
MELS = {name: MEL_PRESETS[name] for name in ("8khz", "16khz", "tacotron2", "parallel_wavegan")} | {
    "decibels, normalized": dataclasses.replace(
        MEL_PRESETS["8khz"], power=2, log_base="decibel", mean=(-40.0,), std=(20.0,)
    )
}


def speech_like(
    frequency_hz: float = 150.0, sample_rate: int = 16000, seconds: float = 1.0
) -> Samples:
    """Return something like speech: harmonics of one pitch, four syllables a second."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    harmonics = range(1, int(0.5 * sample_rate / frequency_hz))
    tone = sum(np.sin(2 * np.pi * k * frequency_hz * t) / k for k in harmonics)
    return np.asarray(0.1 * tone * (1 - np.cos(2 * np.pi * 4 * t)), np.float32)


def noise(samples: int) -> Samples:
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050])
def test_every_distance_of_a_recording_to_itself_is_zero(sample_rate: int) -> None:
    original = Original(speech_like(150.0, sample_rate), sample_rate)

    scores = original.compare(speech_like(150.0, sample_rate))

    assert scores.mel_db == scores.stft == scores.mcd_db == 0
    assert scores.f0_rmse_cents == scores.voicing_error == 0


def test_a_second_comparison_with_an_original_has_the_scores_of_the_first() -> None:
    used, resynthesis = Original(speech_like(), 16000), speech_like(140.0)
    used.compare(noise(16000))

    assert used.compare(resynthesis) == Original(speech_like(), 16000).compare(resynthesis)


@pytest.mark.parametrize(("sample_rate", "best"), [(8000, 4.549), (16000, 4.644), (22050, 4.644)])
def test_a_recording_compared_with_itself_has_the_best_pesq_and_stoi(
    sample_rate: int, best: float
) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    original = speech_like(150.0, sample_rate)

    assert pesq(original, original, sample_rate) == pytest.approx(best, abs=1e-3)
    assert stoi(original, original, sample_rate) == pytest.approx(1)


def test_more_noise_gives_larger_distances() -> None:
    original = speech_like()
    versions = [original + size * noise(len(original)) for size in (0.0, 0.001, 0.01, 0.1)]

    scores = [Original(original, 16000).compare(resynthesis) for resynthesis in versions]

    for less, more in pairwise(scores):
        assert less.mel_db < more.mel_db
        assert less.stft is not None
        assert more.stft is not None
        assert less.stft < more.stft
        assert less.mcd_db < more.mcd_db


def test_more_noise_gives_lower_pesq_and_stoi() -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    original = speech_like()
    versions = [original + size * noise(len(original)) for size in (0.0, 0.001, 0.01, 0.1)]

    for measure in (pesq, stoi):
        scores = [measure(original, resynthesis, 16000) or 0.0 for resynthesis in versions]
        assert scores == sorted(set(scores), reverse=True)


@pytest.mark.parametrize("cents", [-100, 30, 100])
def test_a_shifted_tone_has_that_f0_error_in_cents(cents: int) -> None:
    shifted = speech_like(150.0 * 2 ** (cents / 1200))

    scores = Original(speech_like(150.0), 16000).compare(shifted)

    assert scores.f0_rmse_cents == pytest.approx(abs(cents), abs=10)
    assert scores.voicing_error < 0.05


def test_noise_instead_of_speech_is_a_voicing_error_without_f0_error() -> None:
    original = speech_like()

    scores = Original(original, 16000).compare(1e-4 * noise(len(original)))

    assert scores.voicing_error > 0.9
    assert scores.f0_rmse_cents is None


def test_half_the_amplitude_is_6_db_and_no_cepstral_distortion() -> None:
    original = speech_like() + 0.01 * noise(16000)  # above the floor everywhere

    scores = Original(original, 16000).compare(original * np.float32(0.5))

    assert scores.mel_db == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert scores.mcd_db == pytest.approx(0, abs=1e-3)
    assert scores.stft == pytest.approx(0.5 + math.log(2), abs=1e-2)


@pytest.mark.parametrize("ripples", [1, 5, 13])
def test_mel_cepstral_distortion_of_a_ripple_is_its_rms_value(ripples: int) -> None:
    bands = torch.arange(80)
    ripple = 6 * torch.cos(math.pi * ripples * (bands + 0.5) / 80)

    distortion = mel_cepstral_distortion(torch.zeros(80, 3), ripple[:, None].expand(80, 3))

    assert distortion == pytest.approx(6 / math.sqrt(2), rel=1e-4)


def test_mel_cepstral_distortion_ignores_higher_coefficients() -> None:
    ripple = torch.cos(math.pi * 14 * (torch.arange(80) + 0.5) / 80)

    assert mel_cepstral_distortion(torch.zeros(80, 1), ripple[:, None]) < 1e-4


def test_stft_distance_of_silence_is_undefined() -> None:
    silence = np.zeros(4000, np.float32)

    assert stft_distance(silence, silence) is None


@pytest.mark.parametrize("shape", [(15999,), (16000, 1)])
def test_waveforms_of_different_shapes_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected two waveforms \(T,\), got \(16000,\) and "):
        Original(speech_like(), 16000).compare(np.zeros(shape, np.float32))


def test_pesq_of_short_or_silent_audio_is_undefined() -> None:
    pytest.importorskip("pesq")

    assert pesq(speech_like(seconds=0.1), speech_like(seconds=0.1), 16000) is None
    assert pesq(np.zeros(16000, np.float32), speech_like(), 16000) is None


def test_stoi_of_short_audio_is_undefined() -> None:
    pytest.importorskip("pystoi")

    assert stoi(speech_like(seconds=0.1), speech_like(seconds=0.1), 16000) is None


def test_means_are_over_the_clips_where_they_could_be_measured() -> None:
    one = ResynthesisMetrics(1.0, 2.0, 3.0, 10.0, 0.25, None, None)
    other = ResynthesisMetrics(3.0, 4.0, 5.0, None, 0.75, 4.0, None)

    assert mean_metrics([one, other]) == ResynthesisMetrics(2.0, 3.0, 4.0, 10.0, 0.5, 4.0, None)


@pytest.mark.parametrize(
    "distribution", [Categorical(256), LogisticMixture()], ids=["8 bit", "16 bit"]
)
def test_quantized_audio_is_close_and_quantizing_again_changes_nothing(
    distribution: Distribution,
) -> None:
    original = speech_like()

    resynthesis = quantized(original, distribution, NO_FILTER)

    assert resynthesis.dtype == np.float32
    assert np.abs(resynthesis - original).max() < 0.02
    np.testing.assert_array_equal(quantized(resynthesis, distribution, NO_FILTER), resynthesis)


def test_more_quantization_levels_are_closer_to_the_original() -> None:
    original = speech_like()

    distances = [
        stft_distance(original, quantized(original, distribution, NO_FILTER)) or 0.0
        for distribution in (Categorical(16), Categorical(256), LogisticMixture())
    ]

    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("config", MELS.values(), ids=MELS)
@pytest.mark.parametrize("seconds", [0.4, 0.413])
def test_griffin_lim_has_the_length_and_mel_of_the_original(
    config: MelConfig, seconds: float
) -> None:
    original = speech_like(150.0, config.sample_rate, seconds)
    original += 0.003 * noise(len(original))

    resynthesis = griffin_lim(original, config, iterations=30)

    assert resynthesis.shape == original.shape
    assert np.abs(resynthesis).max() <= 1
    wanted, found = (LogMel(config)(torch.from_numpy(x)[None]) for x in (original, resynthesis))
    assert (wanted - found).abs().mean() < 0.15 * wanted.std()
    assert resynthesis.std() == pytest.approx(original.std(), rel=0.1)


@pytest.mark.parametrize("samples", [800, 801, 1599])
def test_griffin_lim_accepts_short_recordings(samples: int) -> None:
    resynthesis = griffin_lim(speech_like()[:samples], MEL_PRESETS["16khz"], iterations=3)

    assert resynthesis.shape == (samples,)


def test_griffin_lim_is_deterministic_and_keeps_the_random_state() -> None:
    original, config = speech_like(150.0, 8000, 0.3), MEL_PRESETS["8khz"]
    torch.manual_seed(1)
    expected = torch.rand(3)

    torch.manual_seed(1)
    first = griffin_lim(original, config, iterations=3)
    drawn = torch.rand(3)
    second = griffin_lim(original, config, iterations=3)

    assert torch.equal(drawn, expected)
    np.testing.assert_array_equal(first, second)


def test_more_griffin_lim_iterations_are_closer() -> None:
    original, config = speech_like(150.0, 8000, 0.5), MEL_PRESETS["8khz"]

    def error(iterations: int) -> float:
        versions: list[Any] = [original, griffin_lim(original, config, iterations)]
        wanted, found = (LogMel(config)(torch.from_numpy(x)[None]) for x in versions)
        return float((wanted - found).abs().mean())

    assert error(30) < error(1)


def test_undefined_metrics_are_none() -> None:
    tone = speech_like()
    silence = np.zeros_like(tone)

    assert Original(silence, 16000).compare(tone).stft is None
    assert Original(silence, 16000).compare(tone).pesq is None
    assert Original(silence, 16000).compare(tone).stoi is None
    assert Original(tone, 16000).compare(silence).pesq == 1
    assert Original(tone[:1000], 16000).compare(tone[:1000]).stoi is None


def test_griffin_lim_accepts_less_than_one_frame() -> None:
    assert griffin_lim(np.ones(1, np.float32), MEL_PRESETS["8khz"]).shape == (1,)


def test_pesq_of_a_long_recording_is_the_mean_of_its_segments() -> None:
    pytest.importorskip("pesq")
    original = speech_like(sample_rate=8000, seconds=75.0)
    resynthesis = original + 0.01 * noise(len(original))

    total = pesq(original, resynthesis, 8000)

    pieces = [
        pesq(original[i : i + 120000], resynthesis[i : i + 120000], 8000)
        for i in range(0, 600000, 120000)
    ]
    assert total == pytest.approx(sum(piece or 0.0 for piece in pieces) / 5)


def plucked(*starts: float, seconds: float = 3.0) -> np.ndarray:
    """Return tones that rise within 60 ms and fade."""
    t = np.arange(round(seconds * ONSET_RATE)) / ONSET_RATE
    sound = np.zeros_like(t)
    for number, start in enumerate(starts):
        since = np.clip(t - start, 0, None)
        sound += (
            np.clip(since / 0.06, 0, 1)
            * np.exp(-8 * since)
            * np.sin(2 * np.pi * 220 * (number + 2) * since)
        )
    return (0.2 * sound).astype(np.float32)


def notes(*starts: float) -> list[Note]:
    return [Note(start, start + 0.3, 60) for start in starts]


def test_detected_onsets_match_the_plucked_tones() -> None:
    np.testing.assert_allclose(detect_onsets(plucked(*STARTS), ONSET_RATE), STARTS, atol=0.006)


def test_the_f_measure_is_one_for_the_score_and_zero_for_another() -> None:
    pytest.importorskip("mir_eval")
    sound = plucked(*STARTS)

    assert onset_f_measure(sound, ONSET_RATE, notes(*STARTS)) == 1
    assert onset_f_measure(sound, ONSET_RATE, notes(0.7, 1.2, 1.7, 2.3)) == 0
    assert onset_f_measure(np.zeros(24000, np.float32), ONSET_RATE, notes(*STARTS)) == 0


def test_without_notes_the_f_measure_is_undefined() -> None:
    assert onset_f_measure(plucked(0.5), ONSET_RATE, []) is None
    assert onset_f_measure(plucked(0.5), ONSET_RATE, notes(9.0)) is None


def test_a_chord_is_one_onset_and_later_notes_are_ignored() -> None:
    assert score_onsets(notes(0.5, 0.51, 1.0, 7.0), 2.0).tolist() == [0.5, 1.0]
