import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import num_examples
from wavenet.distributions import Categorical, SamplingConfig
from wavenet.kernels.matmul import aligned
from wavenet.kernels.sampler.class_draw import NOT_FINITE, draw_class
from wavenet.sampling.cpu.packing import PADDING_LOGIT, padded


def drawn(logits: np.ndarray, noise: float, how: SamplingConfig) -> int:
    """The class that compiled code draws."""
    count = padded(len(logits))
    values = np.full(count, PADDING_LOGIT, np.float32)
    values[: len(logits)] = logits
    scratch = [aligned(values) for _ in range(3)]
    temperature, top_k = float(how.temperature), how.top_k or 0
    top_p = 1.0 if how.top_p is None else float(how.top_p)
    addresses = [array.ctypes.data for array in scratch]
    return int(draw_class(*addresses, count, np.float32(noise), temperature, top_k, top_p, 0.0))


def expected(logits: np.ndarray, noise: float, how: SamplingConfig) -> int:
    """The class that `Categorical` draws."""
    distribution = Categorical(len(logits))
    params = torch.from_numpy(logits)[None]
    sample = distribution.sample(params, torch.tensor([[noise]], dtype=torch.float32), how)
    return int(distribution.encode(sample))


@settings(max_examples=num_examples(100, 400))
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(2, 300),
    spread=st.sampled_from([0.1, 1.0, 5.0]),
    noise=st.integers(0, 2**24 - 1),
    how=st.builds(
        SamplingConfig,
        temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
        top_k=st.one_of(st.none(), st.integers(1, 310)),
        top_p=st.one_of(st.none(), st.floats(0.01, 1.0)),
    ),
)
def test_draw_equals_that_of_categorical(
    seed: int, levels: int, spread: float, noise: int, how: SamplingConfig
) -> None:
    logits = (np.random.default_rng(seed).standard_normal(levels) * spread).astype(np.float32)
    uniform = noise * 2.0**-24

    found = drawn(logits, uniform, how)

    near = {expected(logits, min(max(uniform + step, 0), 1), how) for step in (-1e-5, 0, 1e-5)}
    assert found in near


def test_of_equal_logits_the_first_are_kept() -> None:
    logits = np.zeros(40, np.float32)

    classes = {drawn(logits, noise, SamplingConfig(top_k=3)) for noise in (0.0, 0.34, 0.67, 0.999)}

    assert classes == {0, 1, 2}
    assert drawn(logits, 0.9, SamplingConfig(temperature=0)) == 0


def test_a_class_without_probability_is_never_drawn() -> None:
    logits = np.full(256, -1000.0, np.float32)
    logits[[7, 90]] = 0.0

    for noise in (0.0, 2.0**-24, 0.5, 1 - 2.0**-24, 1.0):
        for how in (SamplingConfig(), SamplingConfig(temperature=1e-30), SamplingConfig(top_p=0.9)):
            assert drawn(logits, noise, how) in (7, 90)


def test_a_class_ruled_out_by_its_logit_is_never_drawn() -> None:
    logits = np.full(20, -np.inf, np.float32)
    logits[[3, 17]] = 0.0

    for noise in (0.0, 0.49, 0.51, 1.0):
        for how in (
            SamplingConfig(),
            SamplingConfig(temperature=1e30),
            SamplingConfig(top_k=9),
            SamplingConfig(top_p=0.9),
        ):
            assert drawn(logits, noise, how) in (3, 17)


def test_negative_zero_logit_equals_zero() -> None:
    logits = np.array([-0.0, 0.0, -0.0, -5.0], np.float32)

    assert drawn(logits, 0.0, SamplingConfig(top_k=1)) == 0


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_is_a_fault(number: float) -> None:
    logits = np.zeros(20, np.float32)
    logits[13] = number

    assert drawn(logits, 0.5, SamplingConfig()) == NOT_FINITE
    assert drawn(logits, 0.5, SamplingConfig(temperature=0)) == NOT_FINITE


@pytest.mark.parametrize(
    "how",
    [
        SamplingConfig(),
        SamplingConfig(temperature=0.7),
        SamplingConfig(top_k=5),
        SamplingConfig(top_p=0.6),
    ],
)
def test_frequencies_are_probabilities(how: SamplingConfig) -> None:
    logits = np.random.default_rng(0).standard_normal(30).astype(np.float32)
    grid = (np.arange(1000) + 0.5) / 1000

    found = np.bincount([drawn(logits, noise, how) for noise in grid], minlength=30)

    wanted = np.bincount([expected(logits, noise, how) for noise in grid], minlength=30)
    assert np.abs(found - wanted).max() <= 1
