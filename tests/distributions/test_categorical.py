import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wavenet.distributions import Categorical, SamplingConfig
from wavenet.distributions.categorical import truncate
from wavenet.utils.errors import CheckpointError, ConfigError


def draw_codes(logits: torch.Tensor, draws: int, draw: SamplingConfig) -> torch.Tensor:
    """Classes drawn with evenly spread uniforms."""
    distribution = Categorical(logits.shape[0])
    noise = ((torch.arange(draws) + 0.5) / draws).unsqueeze(1)
    samples = distribution.sample(logits.expand(draws, -1), noise, draw)
    return distribution.encode(samples)


def test_draw_frequencies_are_the_probabilities() -> None:
    logits = torch.randn(16)

    counts = draw_codes(logits, 100_000, SamplingConfig()).bincount(minlength=16)

    torch.testing.assert_close(counts / 100_000, logits.softmax(0), atol=2e-5, rtol=0)


def test_random_draws_pass_a_chi_square_test() -> None:
    logits, distribution = torch.randn(16), Categorical(16)
    noise = torch.rand(100_000, 1, generator=torch.Generator().manual_seed(1))

    codes = distribution.encode(
        distribution.sample(logits.expand(100_000, -1), noise, SamplingConfig())
    )

    expected = (logits.double().softmax(0) * 100_000).numpy()
    assert stats.chisquare(codes.bincount(minlength=16).numpy(), expected).pvalue > 1e-4


@given(st.integers(0, 2**24 - 1))
def test_a_class_without_probability_is_never_drawn(word: int) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
    noise = torch.tensor([[word * 2.0**-24]])

    sample = Categorical(5).sample(logits, noise, SamplingConfig())

    assert Categorical(5).encode(sample).item() in (1, 3)


def test_temperature_sharpens_and_flattens() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])

    for temperature in (0.3, 2.0):
        codes = draw_codes(logits, 50_000, SamplingConfig(temperature=temperature))
        frequencies = codes.bincount(minlength=3) / 50_000
        torch.testing.assert_close(
            frequencies, (logits / temperature).softmax(0), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("temperature", [0.0, 1e-30])
def test_temperature_0_takes_the_most_likely_class(temperature: float) -> None:
    logits = torch.tensor([0.0, 3.0, 2.9999])

    assert set(draw_codes(logits, 100, SamplingConfig(temperature=temperature)).tolist()) == {1}


def test_temperature_0_takes_the_lowest_class_on_ties() -> None:
    assert set(
        draw_codes(torch.tensor([0.0, 3.0, 3.0]), 10, SamplingConfig(temperature=0)).tolist()
    ) == {1}


def test_top_k_keeps_the_proportions_of_the_k_most_likely() -> None:
    logits = torch.tensor([1.0, 0.0, 3.0, 2.0])

    frequencies = draw_codes(logits, 50_000, SamplingConfig(top_k=2)).bincount(minlength=4) / 50_000

    kept = torch.tensor([-torch.inf, -torch.inf, 3.0, 2.0]).softmax(0)
    torch.testing.assert_close(frequencies, kept, atol=1e-4, rtol=0)


def test_top_p_keeps_the_fewest_classes_with_that_probability() -> None:
    weights = torch.tensor([[0.1, 0.5, 0.3, 0.1]])

    assert truncate(weights, weights, SamplingConfig(top_p=0.5)).nonzero()[:, 1].tolist() == [1]
    assert truncate(weights, weights, SamplingConfig(top_p=0.51)).nonzero()[:, 1].tolist() == [1, 2]
    assert truncate(weights, weights, SamplingConfig(top_p=1.0)).nonzero()[:, 1].tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_top_k_ranks_by_logits_if_temperature_equalizes_weights() -> None:
    logits = torch.tensor([0.0, 1.0, 3.0, 2.0])

    assert set(draw_codes(logits, 50, SamplingConfig(temperature=1e30, top_k=2)).tolist()) == {2, 3}


def test_top_k_and_top_p_combine() -> None:
    weights = torch.tensor([[0.1, 0.4, 0.3, 0.2]])

    assert truncate(weights, weights, SamplingConfig(top_k=3, top_p=0.5)).nonzero()[
        :, 1
    ].tolist() == [1, 2]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nonfinite_params_are_an_error(bad: float) -> None:
    with pytest.raises(CheckpointError, match="damaged or training diverged"):
        Categorical(3).sample(torch.tensor([[0.0, bad, 0.0]]), torch.zeros(1, 1), SamplingConfig())


def test_probabilities_of_all_classes_sum_to_one() -> None:
    distribution = Categorical(64)
    params = torch.randn(1, 64, 1).expand(1, 64, 64)
    every = distribution.decode(torch.arange(64)).unsqueeze(0)

    total = (-distribution.nll(params, every)).exp().sum()

    torch.testing.assert_close(total, torch.tensor(1.0))


@pytest.mark.parametrize(
    "options", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_sampling_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SamplingConfig(**options)  # type: ignore[arg-type]


def test_a_probability_floor_is_taken_from_every_class() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()

    codes = draw_codes(logits, 50_000, SamplingConfig(probability_floor=0.1))

    frequencies = codes.bincount(minlength=4) / 50_000
    expected = torch.tensor([0.4, 0.2, 0.05, 0.0]) / 0.65
    torch.testing.assert_close(frequencies, expected, rtol=0, atol=0.01)


def test_a_floor_that_may_leave_no_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="below 0.25, one over the number of classes"):
        Categorical(4).check(SamplingConfig(probability_floor=0.25))
