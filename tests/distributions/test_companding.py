"""The conventions of companding against formulas of their own, and in a model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.architectures import SMALL
from wavenet.config import WaveNetConfig
from wavenet.distributions import Categorical
from wavenet.distributions.companding import CONVENTIONS, companding_tables, mu_law_encode
from wavenet.features.f0 import compiled_librosa
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError

Array = NDArray[np.float64]
NAMES = list(CONVENTIONS)
RNG = np.random.default_rng(0)


def compress(x: Array, mu: int) -> Array:
    companded: Array = np.sign(x) * np.log(1 + mu * np.abs(x)) / np.log(1 + mu)
    return companded


def expand(u: Array, mu: int) -> Array:
    x: Array = np.sign(u) * ((1 + mu) ** np.abs(u) - 1) / mu
    return x


# each project's encoder, of samples and a number of classes, from its description
ENCODERS: dict[str, Callable[[Array, int], NDArray[Any]]] = {
    "mu-law": lambda x, n: np.floor((compress(x, n - 1) + 1) / 2 * (n - 1) + 0.5),
    "mu-law-lower-edge": lambda x, n: np.floor((compress(x, n - 1) + 1) / 2 * (n - 1) + 0.5),
    "mu-law-floor": lambda x, n: ((compress(x, n - 1) + 1) / 2 * (n - 1)).astype(int),
    "mu-law-n-floor": lambda x, n: ((compress(x, n) + 1) / 2 * n).astype(int),
    "mu-law-n-grid": lambda x, n: np.digitize(compress(x, n), np.linspace(-1, 1, n)) - 1,
    "mu-law-nsynth": lambda x, n: np.floor(compress(x, n - 1) * n / 2) + n // 2,
    "linear": lambda x, n: np.floor((x + 1) / 2 * n),
}
# the middle of a class, or the peer's own value where it is a lower edge
DECODERS: dict[str, Callable[[Array, int], Array]] = {
    "mu-law": lambda k, n: expand(2 * k / (n - 1) - 1, n - 1),
    "mu-law-lower-edge": lambda k, n: expand(2 * (k - 0.5) / (n - 1) - 1, n - 1),
    "mu-law-floor": lambda k, n: expand(2 * (k + 0.5) / (n - 1) - 1, n - 1),
    "mu-law-n-floor": lambda k, n: expand(2 * (k + 0.5) / n - 1, n),
    "mu-law-n-grid": lambda k, n: expand(2 * (k + 0.5) / (n - 1) - 1, n),
    "mu-law-nsynth": lambda k, n: expand((k - n // 2 + 0.5) * 2 / n, n - 1),
    "linear": lambda k, n: k / (n / 2) - 1,
}


@pytest.mark.parametrize("num_classes", [2, 16, 128, 256, 1024])
@pytest.mark.parametrize("name", NAMES)
def test_classes_are_those_of_the_project(name: str, num_classes: int) -> None:
    loudness = RNG.choice([1.0, 0.05, 0.001], 50_000)
    waveform = np.concatenate([[-1.0, 0.0, 1.0], loudness * RNG.uniform(-1, 1, 50_000)])

    codes = Categorical(num_classes, name).encode(torch.from_numpy(waveform))

    expected = ENCODERS[name](waveform, num_classes).clip(0, num_classes - 1)
    np.testing.assert_array_equal(codes.numpy(), expected)


@pytest.mark.parametrize("num_classes", [2, 16, 128, 256, 1024])
@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_middle_or_the_lower_edge(name: str, num_classes: int) -> None:
    values = Categorical(num_classes, name).decode(torch.arange(num_classes), torch.float64)

    expected = DECODERS[name](np.arange(num_classes, dtype=np.float64), num_classes).clip(-1, 1)
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-15)


@given(name=st.sampled_from(NAMES), num_classes=st.integers(2, 65536))
def test_encoding_undoes_decoding_for_every_class(name: str, num_classes: int) -> None:
    distribution, codes = Categorical(num_classes, name), torch.arange(num_classes)

    for dtype in (torch.float32, torch.float64):
        values = distribution.decode(codes, dtype)
        assert values.dtype == dtype
        assert torch.equal(distribution.encode(values), codes)
        assert values.min() >= -1
        assert values.max() <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES[1:])
def test_encoding_undoes_decoding_in_half_precision(name: str, dtype: torch.dtype) -> None:
    distribution, codes = Categorical(256, name), torch.arange(256)

    assert torch.equal(distribution.encode(distribution.decode(codes, dtype)), codes)


@pytest.mark.parametrize(
    ("name", "code", "value"),
    [
        ("mu-law", 128, 8.62e-5),
        ("mu-law-lower-edge", 128, 0.0),
        ("mu-law-floor", 127, 0.0),
        ("mu-law-n-floor", 128, 8.56e-5),
        ("mu-law-n-grid", 127, 0.0),
        ("mu-law-nsynth", 128, 8.59e-5),
        ("linear", 128, 0.0),
    ],
)
def test_silence_has_the_class_and_value_of_the_table(name: str, code: int, value: float) -> None:
    distribution = Categorical(256, name)

    for zero in (torch.zeros(1), -torch.zeros(1)):
        assert distribution.encode(zero).item() == code
        assert distribution.quantize(zero).item() == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "share", "distance"),
    [
        ("mu-law-lower-edge", 0.0, 0.0216),
        ("mu-law-floor", 0.50, 0.0216),
        ("mu-law-n-floor", 0.42, 0.0215),
        ("mu-law-n-grid", 0.50, 0.0216),
        ("mu-law-nsynth", 0.41, 0.0215),
        ("linear", 0.99, 0.0276),
    ],
)
def test_a_convention_differs_from_mu_law_as_documented(
    name: str, share: float, distance: float
) -> None:
    ours, theirs = Categorical(256), Categorical(256, name)
    waveform = torch.linspace(-1, 1, 1_000_001, dtype=torch.float64)

    different = ours.encode(waveform) != theirs.encode(waveform)
    largest = (ours.quantize(waveform) - theirs.quantize(waveform)).abs().max()

    assert different.double().mean().item() == pytest.approx(share, abs=0.005)
    assert largest.item() == pytest.approx(distance, abs=5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_no_float_has_a_class_out_of_range(name: str) -> None:
    bits = torch.randint(-(2**31), 2**31, (200_000,), dtype=torch.int64).to(torch.int32)
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-45, 1.0, -1.0, 1.05])
    waveform = torch.cat([bits.view(torch.float32), special])

    codes = Categorical(256, name).encode(waveform)

    assert codes.min() >= 0
    assert codes.max() <= 255


@pytest.mark.parametrize("num_classes", [2, 255, 256])
def test_the_table_of_mu_law_has_the_classes_of_its_formula(num_classes: int) -> None:
    edges, _ = companding_tables("mu-law", num_classes)
    waveform = torch.rand(100_000, dtype=torch.float64) * 2 - 1

    table = torch.bucketize(waveform, edges, right=True)

    assert torch.equal(mu_law_encode(waveform, num_classes), table)


def test_codes_and_samples_equal_torchaudio() -> None:
    functional = pytest.importorskip("torchaudio.functional")
    waveform, codes, distribution = torch.linspace(-1, 1, 100_001), torch.arange(256), Categorical()

    assert torch.equal(distribution.encode(waveform), functional.mu_law_encoding(waveform, 256))
    torch.testing.assert_close(distribution.decode(codes), functional.mu_law_decoding(codes, 256))


def test_companded_values_equal_librosa_before_rounding() -> None:
    pytest.importorskip("librosa")
    waveform = np.linspace(-1, 1, 1001)

    companded = compiled_librosa().mu_compress(waveform, mu=255, quantize=False)

    expected = np.floor((companded + 1) / 2 * 255 + 0.5).astype(np.int64)
    assert np.array_equal(Categorical().encode(torch.from_numpy(waveform)).numpy(), expected)


def test_linear_keeps_8_bit_samples_to_the_bit() -> None:
    waveform = (torch.arange(256) - 128) / 128

    assert torch.equal(Categorical(256, "linear").quantize(waveform), waveform)


def test_a_wrong_name_lists_the_names() -> None:
    listed = ", ".join(NAMES)

    with pytest.raises(
        ConfigError, match=rf"model.companding: must be one of {listed}, got 'alaw'"
    ):
        from_dict(WaveNetConfig, {"companding": "alaw"}, "model")
    with pytest.raises(ConfigError, match=f"companding: must be one of {listed}, got 'alaw'"):
        WaveNetConfig(companding="alaw")  # type: ignore[arg-type]


def test_companding_of_a_mixture_is_refused() -> None:
    with pytest.raises(ConfigError, match="companding must be mu-law, the default, for output_d"):
        WaveNetConfig(
            output_distribution="logistic_mixture", quantization_channels=65536, companding="linear"
        )


def test_describing_names_the_convention() -> None:
    assert Categorical().describe() == "256 mu-law classes"
    assert Categorical(128, "mu-law-n-grid").describe() == "128 mu-law-n-grid classes"
    assert SMALL.companding == "mu-law"
