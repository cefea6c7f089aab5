import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from wavenet.distributions import GaussianMixture, LogisticMixture, Mixture, SamplingConfig
from wavenet.kernels.sampler.mixture_draw import normal_quantile
from wavenet.utils.errors import CheckpointError, ConfigError

KINDS = [LogisticMixture, GaussianMixture]
CODES = torch.arange(65536)
MEANS = (0.0, 0.3, 1.0, -1.0, 1.5, -3.0)  # within, on the edges, beyond them
LOG_SCALES = (-12.0, -7.2, -7.1, -3.0, 3.0)  # -7.2 and -7.1: either side of NARROW_BIN

THREE = torch.tensor([0.5, 1.5, 0.0, -0.4, 0.1, 0.6, -4.0, -3.0, -5.0])  # the second is heaviest


def nll_of_codes(distribution: Mixture, params: Tensor, codes: Tensor = CODES) -> Tensor:
    """NLL of each code, `(B, codes)`, for parameters `(B, P)`."""
    waveform = distribution.decode(codes, params.dtype).expand(len(params), -1)
    return distribution.nll(params.unsqueeze(2).expand(-1, -1, len(codes)), waveform)


def params_around(components: int, dtype: torch.dtype) -> Tensor:
    """Parameters `(B, P)` of every mean and scale; the other components lie elsewhere."""
    mean, scale = torch.meshgrid(torch.tensor(MEANS), torch.tensor(LOG_SCALES), indexing="ij")
    mean, scale = mean.flatten(), scale.flatten()
    if components == 1:
        return torch.stack([mean, scale], dim=1).to(dtype)
    logits = torch.tensor([0.2, 1.0, -1.0]).expand(len(mean), 3)
    means = torch.stack([mean, -mean / 2, torch.zeros_like(mean)], dim=1)
    scales = torch.stack([scale, scale.clamp(max=1) + 1, torch.full_like(scale, -5)], dim=1)
    return torch.cat([logits, means, scales], dim=1).to(dtype)


def drawn(
    distribution: Mixture, params: Tensor, draw: SamplingConfig, draws: int = 200_000
) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(draws, distribution.num_noise, generator=generator)
    return distribution.sample(params.expand(draws, -1), noise, draw)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_probabilities_of_all_codes_sum_to_one(
    kind: type[Mixture], components: int, dtype: torch.dtype, tolerance: float
) -> None:
    for params in params_around(components, dtype):
        nll = nll_of_codes(kind(components), params[None])[0]

        assert float((-nll).exp().sum(dtype=torch.float64)) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize(
    ("kind", "density"), [(LogisticMixture, stats.logistic), (GaussianMixture, stats.norm)]
)
@pytest.mark.parametrize("log_scale", [-11.0, -10.0, -7.2, -7.1, -3.0, 2.0])
def test_probability_of_a_code_is_the_integral_over_its_bin(
    kind: type[Mixture], density: stats.rv_continuous, log_scale: float
) -> None:
    scale = np.exp(log_scale)
    codes = torch.arange(24576, 57344, 5)
    found = nll_of_codes(kind(1), torch.tensor([[0.2, log_scale]]).double(), codes)[0]

    # by the smaller of both tails: a difference of two numbers near one would be rounded
    m = np.abs(codes.numpy() / 32768 - 1 - np.float32(0.2)) / scale
    mass = density.sf(m - 1 / 65536 / scale) - density.sf(m + 1 / 65536 / scale)
    there = mass > 1e-9

    np.testing.assert_allclose(found.numpy()[there], -np.log(mass[there]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_outermost_codes_include_the_tails(kind: type[Mixture]) -> None:
    beyond = torch.tensor([[-5.0, -2.0], [5.0, -2.0]])

    nll = nll_of_codes(kind(1), beyond, CODES[[0, -1]])

    torch.testing.assert_close(nll.diagonal(), torch.zeros(2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("components", [1, 3])
def test_nll_and_gradient_are_finite_at_any_distance(kind: type[Mixture], components: int) -> None:
    for log_scale in (-14.0, -9.0, -7.2, -7.1, -2.0, 5.0):
        for mean in (-1e4, -1.0, 0.0, 1.0, 1e4):
            row = [mean, log_scale] if components == 1 else [0.0] * 3 + [mean] * 3 + [log_scale] * 3
            params = torch.tensor([row], requires_grad=True)
            nll = nll_of_codes(kind(components), params, CODES[:: 65535 // 5])
            nll.sum().backward()

            assert nll.isfinite().all()
            assert params.grad is not None
            assert params.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_log_scales_below_the_minimum_are_clamped(kind: type[Mixture]) -> None:
    distribution = kind(1, min_log_scale=-7.0)

    low, least = nll_of_codes(distribution, torch.tensor([[0.1, -20.0], [0.1, -7.0]]))

    torch.testing.assert_close(low, least)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "params",
    [torch.tensor([0.25, -4.0]), torch.tensor([-1.1, -1.0]), THREE],
    ids=["one", "one beyond the edge", "three"],
)
def test_draws_have_the_moments_of_the_probabilities(kind: type[Mixture], params: Tensor) -> None:
    distribution = kind(max(1, len(params) // 3))
    probability = (-nll_of_codes(distribution, params[None].double())[0]).exp()
    values = distribution.decode(CODES, torch.float64)
    mean = (probability * values).sum()
    moments = [(probability * (values - mean) ** power).sum() for power in (2, 4)]

    samples = drawn(distribution, params, SamplingConfig()).double()

    spread = (moments[0] / len(samples)).sqrt()  # of the mean, by chance
    assert abs(samples.mean() - mean) < 4 * spread
    variance_spread = ((moments[1] - moments[0] ** 2) / len(samples)).sqrt()
    assert abs(samples.var() - moments[0]) < 4 * variance_spread


@pytest.mark.parametrize("kind", KINDS)
def test_even_noise_draws_each_code_by_its_probability(kind: type[Mixture]) -> None:
    distribution, draws = kind(1), 100_000
    noise = ((torch.arange(draws) + 0.5) / draws).unsqueeze(1)
    params = torch.tensor([[0.01, -9.0]])  # a few dozen codes

    codes = distribution.encode(
        distribution.sample(params.expand(draws, -1), noise, SamplingConfig())
    )

    frequencies = codes.bincount(minlength=65536) / draws
    expected = (-nll_of_codes(distribution, params)[0]).exp()
    torch.testing.assert_close(frequencies, expected, atol=3e-5, rtol=0)


def test_components_are_drawn_by_their_weights() -> None:
    apart = torch.tensor([0.5, 1.5, 0.0, -0.5, 0.0, 0.5, -9.0, -9.0, -9.0])

    samples = drawn(GaussianMixture(3), apart, SamplingConfig(), 100_000)

    frequencies = (samples / 0.5).round().long().add(1).bincount() / len(samples)
    torch.testing.assert_close(frequencies, apart[:3].softmax(0), atol=5e-3, rtol=0)


def test_normal_quantile_is_that_of_torch() -> None:
    tails = 2.0 ** -torch.arange(1, 50, dtype=torch.float64)
    middle = torch.linspace(0.001, 0.999, 997, dtype=torch.float64)
    uniforms = torch.cat([tails, middle, 1 - tails])

    found = torch.tensor([normal_quantile(float(x)) for x in uniforms], dtype=torch.float64)

    torch.testing.assert_close(found, torch.special.ndtri(uniforms), atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_temperature_0_takes_the_mean_of_the_likeliest_component(kind: type[Mixture]) -> None:
    distribution = kind(3)

    samples = drawn(distribution, THREE, SamplingConfig(temperature=0), 20)

    mode = distribution.mode(THREE[None, :, None])
    torch.testing.assert_close(mode, distribution.quantize(torch.tensor([[0.1]])))
    torch.testing.assert_close(samples, mode[0].expand(20), rtol=0, atol=0)


def test_mode_is_the_first_of_equally_likely_components() -> None:
    tied = torch.tensor([0.0, 1.0, 1.0, -0.5, 0.25, 0.5, -3.0, -3.0, -3.0])

    assert LogisticMixture(3).mode(tied[None, :, None]).item() == 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_spread_of_one_component_is_proportional_to_temperature(kind: type[Mixture]) -> None:
    params = torch.tensor([0.0, -4.0])

    spreads = [
        drawn(kind(1), params, SamplingConfig(temperature=t), 5000).std() for t in (1.0, 0.5, 0.1)
    ]

    torch.testing.assert_close(spreads[1] / spreads[0], torch.tensor(0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(spreads[2] / spreads[0], torch.tensor(0.1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_lower_temperature_reduces_the_spread_of_a_mixture(kind: type[Mixture]) -> None:
    spreads = [
        float(drawn(kind(3), THREE, SamplingConfig(temperature=t), 20_000).std())
        for t in (2.0, 1.0, 0.5, 0.2, 0.0)
    ]

    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_encode_inverts_decode_for_every_code(kind: type[Mixture]) -> None:
    samples = kind().decode(CODES)

    assert torch.equal(kind().encode(samples), CODES)
    assert samples.min() == -1
    assert samples.max() == 32767 / 32768


@pytest.mark.parametrize(
    ("sample", "code"), [(0.0, 32768), (1.0, 65535), (-1.0, 0), (7.0, 65535), (-7.0, 0)]
)
def test_samples_outside_the_range_get_the_outermost_code(sample: float, code: int) -> None:
    assert LogisticMixture().encode(torch.tensor(sample)).item() == code


@pytest.mark.parametrize("kind", KINDS)
def test_same_noise_draws_the_same_sample_alone_and_in_a_batch(kind: type[Mixture]) -> None:
    noise = torch.rand(50, 2, generator=torch.Generator().manual_seed(2))

    together = kind(3).sample(THREE.expand(50, -1), noise, SamplingConfig())
    alone = [kind(3).sample(THREE[None], row[None], SamplingConfig()) for row in noise]

    assert torch.equal(together, torch.cat(alone))
    assert len(together.unique()) > 40


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 1 - 2.0**-24])
def test_extreme_noise_draws_a_sample_in_range(kind: type[Mixture], noise: float) -> None:
    sample = kind(3).sample(THREE[None], torch.full((1, 2), noise), SamplingConfig())

    assert -1 <= sample.item() < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("draw", [SamplingConfig(top_k=5), SamplingConfig(top_p=0.9)], ids=str)
def test_top_k_and_top_p_are_refused(kind: type[Mixture], draw: SamplingConfig) -> None:
    with pytest.raises(ConfigError, match="choose among classes"):
        kind(3).sample(THREE[None], torch.zeros(1, 2), draw)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nonfinite_params_are_an_error(bad: float) -> None:
    with pytest.raises(CheckpointError, match="damaged or training diverged"):
        GaussianMixture(1).sample(torch.tensor([[bad, 0.0]]), torch.zeros(1, 1), SamplingConfig())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("components", [1, 10])
def test_initial_bias_makes_silence_likelier_than_chance(
    kind: type[Mixture], components: int
) -> None:
    distribution = kind(components)
    bias = distribution.initial_bias()

    nll = nll_of_codes(distribution, bias[None], CODES[32768:32769])

    assert bias.shape == (distribution.num_params,)
    assert nll.item() / np.log(2) < 16  # bits
