import dataclasses

import pytest

import wavenet
from wavenet import config


def test_every_public_name_can_be_loaded_and_is_listed() -> None:
    for name in wavenet.__all__:
        assert getattr(wavenet, name) is not None

    assert set(wavenet.__all__) <= set(dir(wavenet))


def test_every_config_is_public() -> None:
    classes = {name for name, value in vars(config).items() if dataclasses.is_dataclass(value)}

    assert classes - set(wavenet.__all__) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Wavenet'"):
        wavenet.Wavenet  # noqa: B018
