import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavenet.distributions.categorical import mu_law_decode, mu_law_encode
from wavenet.features.f0 import compiled_librosa


@given(levels=st.integers(2, 65536))
def test_encoding_undoes_decoding_for_every_class(levels: int) -> None:
    codes = torch.arange(levels)

    assert torch.equal(mu_law_encode(mu_law_decode(codes, levels, torch.float64), levels), codes)


@pytest.mark.parametrize("levels", [2, 3, 16, 255, 256, 1024])
def test_encoding_undoes_decoding_in_single_precision(levels: int) -> None:
    codes = torch.arange(levels)

    assert torch.equal(mu_law_encode(mu_law_decode(codes, levels), levels), codes)


def test_codes_and_samples_equal_torchaudio() -> None:
    functional = pytest.importorskip("torchaudio.functional")
    waveform = torch.linspace(-1, 1, 100_001)
    codes = torch.arange(256)

    assert torch.equal(mu_law_encode(waveform), functional.mu_law_encoding(waveform, 256))
    torch.testing.assert_close(mu_law_decode(codes), functional.mu_law_decoding(codes, 256))


def test_companded_values_equal_librosa_before_rounding() -> None:
    pytest.importorskip("librosa")
    waveform = np.linspace(-1, 1, 1001)

    companded = compiled_librosa().mu_compress(waveform, mu=255, quantize=False)

    expected = np.floor((companded + 1) / 2 * 255 + 0.5).astype(np.int64)
    assert np.array_equal(mu_law_encode(torch.from_numpy(waveform)).numpy(), expected)


def test_silence_is_class_128_of_256() -> None:
    assert mu_law_encode(torch.zeros(1)).item() == 128


def test_no_float_has_a_class_out_of_range() -> None:
    bits = torch.randint(-(2**31), 2**31, (1_000_000,), dtype=torch.int64).to(torch.int32)
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-45, 1.0, -1.0, 1.05])
    waveform = torch.cat([bits.view(torch.float32), special])

    codes = mu_law_encode(waveform)

    assert codes.min() >= 0
    assert codes.max() <= 255


def test_every_16_bit_sample_decodes_within_half_a_class() -> None:
    waveform = torch.arange(-32768, 32768) / 32768

    codes = mu_law_encode(waveform)

    lower, upper = mu_law_decode(codes - 1), mu_law_decode(codes + 1)
    inside = (waveform >= (lower + mu_law_decode(codes)) / 2 - 0.02) & (
        waveform <= (upper + mu_law_decode(codes)) / 2 + 0.02
    )
    assert inside.all()
