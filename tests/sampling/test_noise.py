import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wavenet.sampling.state import uniforms


@given(start=st.integers(0, 100), length=st.integers(0, 50), per_sample=st.integers(1, 5))
def test_any_range_is_part_of_the_same_noise(start: int, length: int, per_sample: int) -> None:
    whole = uniforms([3, 8], 0, 150, per_sample)

    part = uniforms([3, 8], start, length, per_sample)

    assert torch.equal(part, whole[:, start : start + length])


@pytest.mark.parametrize("start", [0, 7, 2**40 + 1])
def test_noise_is_that_of_a_new_generator_for_each_item(start: int) -> None:
    seeds = [5, 2**64 - 1, 0]

    noise = uniforms(seeds, start, 9)

    for item, seed in zip(noise[..., 0], seeds, strict=True):
        words = np.random.Philox(key=seed, counter=start // 4).random_raw(start % 4 + 9)[
            start % 4 :
        ]
        assert (item * 2**24).long().tolist() == (words >> 40).tolist()


def test_an_item_depends_on_its_own_seed_alone() -> None:
    assert torch.equal(uniforms([1, 2, 3], 0, 20)[1], uniforms([2], 0, 20)[0])


def test_noise_is_uniform_and_below_one() -> None:
    noise = uniforms([0], 0, 100_000).flatten()

    assert noise.min() >= 0
    assert noise.max() < 1
    assert stats.kstest(noise.numpy(), "uniform").pvalue > 1e-4


def test_neighbouring_seeds_are_not_correlated() -> None:
    one, other = uniforms([41, 42], 0, 100_000)

    assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.015


def test_the_noise_of_a_seed_never_changes() -> None:
    expected = [193722, 4052523, 1869415, 9469306]  # times 2**-24

    assert (uniforms([0], 0, 4).flatten() * 2**24).int().tolist() == expected
