import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tests.architectures import configs
from wavenet.config import AudioConfig, LocalConfig, MelConfig, WaveNetConfig
from wavenet.utils.dataclass_io import from_dict, to_dict, to_file_dict
from wavenet.utils.errors import ConfigError


@given(configs())
def test_config_round_trips_through_plain_data(config: WaveNetConfig) -> None:
    assert from_dict(WaveNetConfig, to_dict(config)) == config


def test_receptive_field_equals_the_papers() -> None:
    config = WaveNetConfig(dilations=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512))

    assert config.receptive_field == 1024
    assert config.receptive_field_seconds(16000) == 0.064


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("levels", 1),
        ("dilations", []),
        ("dilations", [1, 0]),
        ("kernel_size", 0),
        ("gate_channels", 7),
        ("kernel_size", 10**18),
        ("residual_channels", 2**62),
        ("dilations", [1] * 100_000),
        ("dilations", [2**40]),
        ("dropout", 10**400),
        ("dropout", 1.0),
        ("residual_scale", 0.0),
        ("input", "onehot"),
        ("bias", 1),
        ("skip_channels", "16"),
        ("skip_channels", 16.0),
        ("skip_channels", True),
        ("skip_scale", float("nan")),
        ("dilations", [1, "2"]),
        ("dilations", 3),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        from_dict(WaveNetConfig, {key: value}, "model")


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'kernel_size'"):
        from_dict(WaveNetConfig, {"kernelsize": 2})


def test_integer_is_accepted_as_a_float() -> None:
    assert from_dict(WaveNetConfig, {"skip_scale": 1}).skip_scale == 1.0


def test_options_of_upsampling_are_written_where_they_are_not_default() -> None:
    plain = LocalConfig(in_channels=3, upsample_scales=(2,))
    transposed = dataclasses.replace(plain, upsample="transposed", upsample_frames=4)
    bands = dataclasses.replace(plain, upsample="bands", freq_axis_kernel_size=5)

    written = [to_file_dict(config) for config in (plain, transposed, bands)]

    extra = [set(keys) - set(written[0]) for keys in written]
    assert extra == [set(), {"upsample_frames"}, {"freq_axis_kernel_size"}]
    assert [from_dict(LocalConfig, keys) for keys in written] == [plain, transposed, bands]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsample_frames": 3}, "upsample_frames must be 2, the default, for upsample=nearest"),
        ({"upsample": "transposed", "upsample_frames": 0}, "upsample_frames must be from 1 to 64"),
        ({"upsample": "shared", "freq_axis_kernel_size": 5}, "must be 3, the default, for"),
        ({"upsample": "bands", "freq_axis_kernel_size": 2}, "must be odd, got 2"),
    ],
)
def test_options_of_other_upsampling_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(LocalConfig, {"in_channels": 3, "upsample_scales": [2], **options})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"output_distribution": "categoricl"}, "did you mean 'categorical'"),
        ({"output_distribution": ["categorical"]}, "output_distribution: must be text, got a list"),
        ({"residual_channels": "64"}, "residual_channels: must be a whole number, got '64'"),
        (
            {"residual_channels": 64.0},
            "residual_channels: must be a whole number, got 64.0 (float): write 64",
        ),
        ({"residual_channels": 64.5}, "must be a whole number, got 64.5 (float)"),
        ({"dropout": "0.1"}, "dropout: must be a number, got '0.1'"),
        ({"bias": 1}, "bias: must be true or false, got 1 (int)"),
        ({"input_type": "onehot"}, "input_type: must be one of embedding, scalar, mu-law"),
        ({"dilations": 4}, "dilations: must be a list, got 4 (int)"),
        ({"dilations": ()}, "dilations must be a list of 1 entry or more"),
        ({"dilations": ("1", 2)}, "must be a whole number, got '1'"),
        ({"local": {"channels": 4}}, "local must be a LocalConfig or None, got a mapping"),
    ],
)
def test_a_value_of_another_type_is_refused_in_words(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        WaveNetConfig(**values)


def test_other_configs_refuse_a_value_of_another_type_in_words() -> None:
    mel: Any = {"sample_rate": 8000, "n_fft": 64, "hop_length": 16, "win_length": "64"}
    rate: Any = "16000"
    name: Any = "16khz"

    with pytest.raises(ConfigError, match="win_length: must be a whole number, got '64'"):
        MelConfig(**mel, n_mels=8, f_max=4000.0)
    with pytest.raises(ConfigError, match="sample_rate: must be a whole number, got '16000'"):
        AudioConfig(sample_rate=rate)
    with pytest.raises(ConfigError, match="mel must be a MelConfig or None, got '16khz'"):
        AudioConfig(mel=name)


def test_lists_and_numpy_numbers_make_a_hashable_config() -> None:
    values: Any = {"dilations": [1, np.int64(2)], "residual_channels": np.int64(8)}

    config = WaveNetConfig(**values)

    assert config == WaveNetConfig(dilations=(1, 2), residual_channels=8)
    assert hash(config) == hash(WaveNetConfig(dilations=(1, 2), residual_channels=8))
