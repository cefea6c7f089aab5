"""Baselines for bits per sample: their probabilities sum to one, and each matches its name."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
import torch

from wavenet.config import FilterConfig
from wavenet.distributions import Categorical
from wavenet.distributions.companding import CONVENTIONS
from wavenet.evaluation.baselines import (
    LogProbability,
    baselines,
    decision_edges,
    fit_predictor,
    log_laplace,
    log_logistic,
    prediction_residual,
    quantized,
    running_magnitude,
)
from wavenet.features.filters import SignalFilter

RNG = np.random.default_rng(0)


def noise(samples: int, scale: float) -> np.ndarray:
    return np.clip(scale * RNG.standard_normal(samples), -1, 1).astype(np.float32)


@pytest.mark.parametrize("log_probability", [log_laplace, log_logistic])
@pytest.mark.parametrize("scale", [1e-12, 1e-5, 0.02, 3.0])
@pytest.mark.parametrize("center", [-2.0, -0.3, 0.0, 0.9])
@pytest.mark.parametrize(
    ("levels", "companding"),
    [(2, "mu-law"), (255, "mu-law"), (256, "mu-law"), (256, "mu-law-floor"), (256, "linear")],
)
def test_code_probabilities_sum_to_one(
    log_probability: LogProbability, scale: float, center: float, levels: int, companding: str
) -> None:
    edges = decision_edges(Categorical(levels, companding)) - center

    logs = log_probability(edges[:-1], edges[1:], np.full(levels, scale))

    assert np.isfinite(logs).all()
    assert np.exp(logs).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("log_probability", [log_laplace, log_logistic])
def test_a_density_has_the_given_mean_magnitude(log_probability: LogProbability) -> None:
    edges = np.linspace(-3, 3, 60_001)
    middles = (edges[:-1] + edges[1:]) / 2

    share = np.exp(log_probability(edges[:-1], edges[1:], np.full(len(middles), 0.1)))

    assert (share * np.abs(middles)).sum() == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("companding", CONVENTIONS)
@pytest.mark.parametrize("levels", [2, 16, 256])
def test_decision_edges_are_where_the_code_changes(levels: int, companding: str) -> None:
    distribution = Categorical(levels, companding)
    inner = decision_edges(distribution)[1:-1]

    below = distribution.encode(torch.tensor(inner - 1e-6, dtype=torch.float64))
    above = distribution.encode(torch.tensor(inner + 1e-6, dtype=torch.float64))

    assert below.tolist() == list(range(levels - 1))
    assert above.tolist() == list(range(1, levels))


def test_uniform_codes_have_log2_of_their_number_in_bits() -> None:
    codes = torch.from_numpy(RNG.integers(0, 256, 60_000))
    clip = Categorical(256).decode(codes).numpy()

    scores = baselines([clip], Categorical(256))

    assert scores["uniform"] == 8
    assert scores["histogram"] == pytest.approx(8, abs=0.01)
    assert scores["linear_prediction"] > 7.9
    assert scores["adaptive_linear_prediction"] > 7.9


def test_linear_prediction_of_a_resonance_beats_its_histogram() -> None:
    clip = scipy.signal.lfilter([0.01], [1, -1.8, 0.95], RNG.standard_normal(20_000))

    scores = baselines([clip.astype(np.float32)], Categorical(256))

    assert scores["linear_prediction"] < scores["histogram"] - 1


def test_the_predictor_recovers_an_autoregressive_filter() -> None:
    signals = [
        scipy.signal.lfilter([1.0], [1, -1.8, 0.95], RNG.standard_normal(20_000)) for _ in range(2)
    ]

    predictor = fit_predictor(signals, order=2)

    np.testing.assert_allclose(predictor, [1.8, -0.95], atol=0.02)
    residual = prediction_residual(signals[0], predictor)
    assert residual.std() == pytest.approx(1, abs=0.05)


def test_the_predictor_does_not_depend_on_the_chunk_size() -> None:
    signal = RNG.standard_normal(70_000)  # longer than a chunk
    lags = np.stack([np.concatenate([np.zeros(lag), signal[:-lag]]) for lag in (1, 2, 3)], axis=1)

    predictor = fit_predictor([signal], order=3)

    np.testing.assert_allclose(predictor, np.linalg.lstsq(lags, signal)[0], atol=1e-9)


def test_an_adaptive_scale_gains_where_the_level_changes() -> None:
    level = np.repeat([0.2, 0.002, 0.05, 0.0005], 4000)
    changing, steady = level * noise(16_000, 1.0), noise(16_000, 0.05)

    gain = {
        name: scores["linear_prediction"] - scores["adaptive_linear_prediction"]
        for name, scores in {
            "changing": baselines([np.clip(changing, -1, 1)], Categorical(256)),
            "steady": baselines([steady], Categorical(256)),
        }.items()
    }

    assert gain["changing"] > 0.5
    assert gain["steady"] < 0.2


def test_the_scale_of_a_sample_depends_on_earlier_residuals_only() -> None:
    residual = RNG.standard_normal(50)
    changed = residual.copy()
    changed[20:] *= 100

    sizes, later = (
        running_magnitude(part, time_constant=4, initial=0.5) for part in (residual, changed)
    )

    np.testing.assert_array_equal(sizes[:21], later[:21])
    assert later[21] > sizes[21]
    mean = 0.5
    for index, value in enumerate(residual):
        assert sizes[index] == pytest.approx(mean)
        mean = math.exp(-1 / 4) * mean + (1 - math.exp(-1 / 4)) * abs(value)


def test_the_order_of_clips_does_not_matter() -> None:
    quiet, loud = noise(3000, 0.01), noise(3000, 0.5)

    forward, backward = (
        baselines([quiet, loud], Categorical(256)),
        baselines([loud, quiet], Categorical(256)),
    )

    assert forward == pytest.approx(backward, abs=0.01)


@pytest.mark.parametrize("levels", [2, 255, 256])
def test_silence_has_almost_no_bits_per_sample(levels: int) -> None:
    scores = baselines([np.zeros(2000, dtype=np.float32)], Categorical(levels))

    assert scores["histogram"] == 0
    assert scores["adaptive_linear_prediction"] < 0.6
    assert all(math.isfinite(bits) for bits in scores.values())


@pytest.mark.parametrize("companding", CONVENTIONS)
def test_silence_is_cheap_in_every_companding(companding: str) -> None:
    scores = baselines([np.zeros(2000, dtype=np.float32)], Categorical(256, companding))

    assert scores["histogram"] == 0
    assert scores["adaptive_linear_prediction"] < 1.2


@pytest.mark.parametrize("companding", CONVENTIONS)
def test_resynthesis_through_quantization_asks_the_distribution(companding: str) -> None:
    distribution, clip = Categorical(64, companding), noise(2000, 0.3)

    result = quantized(clip, distribution, SignalFilter(FilterConfig(), 8000))

    np.testing.assert_array_equal(result, distribution.quantize(torch.from_numpy(clip)).numpy())
    assert len(np.unique(result)) <= 64


@pytest.mark.parametrize("clips", [[], [np.zeros(0, dtype=np.float32)]])
def test_no_samples_is_an_error(clips: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        baselines(clips, Categorical(256))


@pytest.mark.slow
def test_importing_evaluation_imports_no_package_of_the_train_extra() -> None:
    modules = "wavenet.evaluation.plots, wavenet.evaluation.report, wavenet.evaluation.baselines"
    heavy = "{'matplotlib', 'scipy', 'librosa', 'jinja2'}"

    code = f"import sys, {modules}; assert not {heavy} & sys.modules.keys()"

    subprocess.run([sys.executable, "-c", code], check=True)
