"""Yardsticks are honest codes: probabilities sum to one, and each does what its name says."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
import torch

from wavenet.distributions import Categorical
from wavenet.evaluation.baselines import (
    LogProbability,
    decision_edges,
    fit_predictor,
    log_laplace,
    log_logistic,
    prediction_residual,
    recent_size,
    yardsticks,
)
from wavenet.mu_law import mu_law_decode, mu_law_encode

RNG = np.random.default_rng(0)


def noise(samples: int, scale: float) -> np.ndarray:
    return np.clip(scale * RNG.standard_normal(samples), -1, 1).astype(np.float32)


@pytest.mark.parametrize("log_probability", [log_laplace, log_logistic])
@pytest.mark.parametrize("size", [1e-12, 1e-5, 0.02, 3.0])
@pytest.mark.parametrize("centre", [-2.0, -0.3, 0.0, 0.9])
@pytest.mark.parametrize("levels", [2, 255, 256])
def test_code_probabilities_sum_to_one(
    log_probability: LogProbability, size: float, centre: float, levels: int
) -> None:
    edges = decision_edges(Categorical(levels)) - centre

    logs = log_probability(edges[:-1], edges[1:], np.full(levels, size))

    assert np.isfinite(logs).all()
    assert np.exp(logs).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("log_probability", [log_laplace, log_logistic])
def test_a_density_has_the_mean_size_that_it_is_given(log_probability: LogProbability) -> None:
    edges = np.linspace(-3, 3, 60_001)
    middles = (edges[:-1] + edges[1:]) / 2

    share = np.exp(log_probability(edges[:-1], edges[1:], np.full(len(middles), 0.1)))

    assert (share * np.abs(middles)).sum() == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_edges_lie_where_the_code_changes(levels: int) -> None:
    inner = decision_edges(Categorical(levels))[1:-1]

    below = mu_law_encode(torch.tensor(inner - 1e-6, dtype=torch.float64), levels)
    above = mu_law_encode(torch.tensor(inner + 1e-6, dtype=torch.float64), levels)

    assert below.tolist() == list(range(levels - 1))
    assert above.tolist() == list(range(1, levels))


def test_uniform_codes_cost_as_many_bits_as_they_have() -> None:
    codes = torch.from_numpy(RNG.integers(0, 256, 60_000))
    clip = mu_law_decode(codes, 256).numpy()

    scores = yardsticks([clip], Categorical(256))

    assert scores["uniform"] == 8
    assert scores["histogram"] == pytest.approx(8, abs=0.01)
    assert scores["linear_prediction"] > 7.9
    assert scores["adapted_linear_prediction"] > 7.9


def test_a_resonance_is_predicted_better_than_its_histogram() -> None:
    clip = scipy.signal.lfilter([0.01], [1, -1.8, 0.95], RNG.standard_normal(20_000))

    scores = yardsticks([clip.astype(np.float32)], Categorical(256))

    assert scores["linear_prediction"] < scores["histogram"] - 1


def test_the_predictor_finds_the_filter_that_made_the_signal() -> None:
    signals = [
        scipy.signal.lfilter([1.0], [1, -1.8, 0.95], RNG.standard_normal(20_000)) for _ in range(2)
    ]

    predictor = fit_predictor(signals, order=2)

    np.testing.assert_allclose(predictor, [1.8, -0.95], atol=0.02)
    residual = prediction_residual(signals[0], predictor)
    assert residual.std() == pytest.approx(1, abs=0.05)


def test_the_predictor_is_the_same_however_long_the_blocks_are() -> None:
    signal = RNG.standard_normal(70_000)  # longer than a block
    lags = np.stack([np.concatenate([np.zeros(lag), signal[:-lag]]) for lag in (1, 2, 3)], axis=1)

    predictor = fit_predictor([signal], order=3)

    np.testing.assert_allclose(predictor, np.linalg.lstsq(lags, signal)[0], atol=1e-9)


def test_a_scale_that_adapts_is_better_where_the_level_changes() -> None:
    level = np.repeat([0.2, 0.002, 0.05, 0.0005], 4000)
    changing, steady = level * noise(16_000, 1.0), noise(16_000, 0.05)

    gain = {
        name: scores["linear_prediction"] - scores["adapted_linear_prediction"]
        for name, scores in {
            "changing": yardsticks([np.clip(changing, -1, 1)], Categorical(256)),
            "steady": yardsticks([steady], Categorical(256)),
        }.items()
    }

    assert gain["changing"] > 0.5
    assert gain["steady"] < 0.2


def test_the_scale_of_a_sample_knows_only_residuals_before_it() -> None:
    residual = RNG.standard_normal(50)
    changed = residual.copy()
    changed[20:] *= 100

    sizes, later = (recent_size(part, memory=4, before=0.5) for part in (residual, changed))

    np.testing.assert_array_equal(sizes[:21], later[:21])
    assert later[21] > sizes[21]
    mean = 0.5
    for index, value in enumerate(residual):
        assert sizes[index] == pytest.approx(mean)
        mean = math.exp(-1 / 4) * mean + (1 - math.exp(-1 / 4)) * abs(value)


def test_a_clip_begins_in_silence_whatever_came_before_it() -> None:
    quiet, loud = noise(3000, 0.01), noise(3000, 0.5)

    forward, backward = (
        yardsticks([quiet, loud], Categorical(256)),
        yardsticks([loud, quiet], Categorical(256)),
    )

    assert forward == pytest.approx(backward, abs=0.01)


@pytest.mark.parametrize("levels", [2, 255, 256])
def test_silence_costs_almost_nothing(levels: int) -> None:
    scores = yardsticks([np.zeros(2000, dtype=np.float32)], Categorical(levels))

    assert scores["histogram"] == 0
    assert scores["adapted_linear_prediction"] < 0.6
    assert all(math.isfinite(bits) for bits in scores.values())


@pytest.mark.parametrize("clips", [[], [np.zeros(0, dtype=np.float32)]])
def test_no_samples_is_an_error(clips: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        yardsticks(clips, Categorical(256))


@pytest.mark.slow
def test_importing_evaluation_does_not_import_what_the_train_extra_brings() -> None:
    modules = "wavenet.evaluation.plots, wavenet.evaluation.report, wavenet.evaluation.baselines"
    heavy = "{'matplotlib', 'scipy', 'librosa'}"

    code = f"import sys, {modules}; assert not {heavy} & sys.modules.keys()"

    subprocess.run([sys.executable, "-c", code], check=True)
