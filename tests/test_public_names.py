import dataclasses
import pydoc

import pytest

import wavenet
from wavenet import config


def test_every_public_name_can_be_loaded_and_is_listed() -> None:
    for name in wavenet.__all__:
        assert getattr(wavenet, name) is not None

    assert set(wavenet.__all__) <= set(dir(wavenet))


def test_the_package_lists_its_public_names_alone() -> None:
    assert [name for name in dir(wavenet) if not name.startswith("__")] == wavenet.__all__


def test_help_of_the_package_shows_signatures_and_examples() -> None:
    text = pydoc.plain(pydoc.render_doc(wavenet))

    for words in ("load(name: ", "make_sampler(", "class WaveNet(", "generate(", "stream("):
        assert words in text, words
    documented = (
        *(wavenet.load, wavenet.make_sampler, wavenet.WaveNet),
        *(wavenet.Sampler.generate, wavenet.Sampler.stream),
    )
    for one in documented:
        assert ">>> " in (one.__doc__ or ""), one


def test_every_config_is_public() -> None:
    classes = {name for name, value in vars(config).items() if dataclasses.is_dataclass(value)}

    assert classes - set(wavenet.__all__) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Wavenet'"):
        wavenet.Wavenet  # noqa: B018
