import dataclasses
import doctest
import inspect
import pydoc
from collections.abc import Callable
from types import ModuleType

import pytest

import wavenet
from wavenet import Sampler, config


def test_every_public_name_can_be_loaded_and_is_listed() -> None:
    for name in wavenet.__all__:
        assert getattr(wavenet, name) is not None

    assert set(wavenet.__all__) <= set(dir(wavenet))


def test_the_package_lists_its_public_names_alone() -> None:
    assert [name for name in dir(wavenet) if not name.startswith("__")] == wavenet.__all__


def test_help_of_the_package_shows_every_public_name() -> None:
    text = pydoc.plain(pydoc.render_doc(wavenet))

    for words in ("load(name: ", "make_sampler(", "class WaveNet(", "generate(", "stream("):
        assert words in text, words


def test_help_of_the_package_begins_with_an_example() -> None:
    lines = (wavenet.__doc__ or "").splitlines()

    assert lines[0].startswith("WaveNet in PyTorch")
    assert lines[3].strip() == ">>> import torch, wavenet"


@pytest.mark.parametrize("method", [Sampler.generate, Sampler.generate_ragged, Sampler.stream])
def test_help_of_a_sampler_shows_every_argument(method: Callable[..., object]) -> None:
    arguments = inspect.signature(method).parameters

    start = inspect.signature(Sampler.init_state).parameters
    for name in ("prompt", "seed", "local", "speaker", "vector", "guidance_scale"):
        assert arguments[name].default == start[name].default
    assert "start" not in arguments


def test_no_public_signature_hides_its_arguments() -> None:
    functions = [getattr(wavenet, name) for name in wavenet.__all__]
    methods = [
        method
        for owner in functions
        if inspect.isclass(owner)
        for name, method in vars(owner).items()
        if inspect.isfunction(method) and not name.startswith("_")
    ]

    hidden = [
        one.__qualname__
        for one in [*functions, *methods]
        if callable(one)
        for argument in inspect.signature(one).parameters.values()
        if argument.kind in (argument.VAR_KEYWORD, argument.VAR_POSITIONAL)
    ]

    assert hidden == []


@pytest.mark.parametrize(
    "documented",
    [
        *(wavenet, wavenet.load, wavenet.make_sampler, wavenet.WaveNet, wavenet.WaveNet.nll),
        *(Sampler.generate, Sampler.stream),
    ],
    ids=lambda one: one.__name__,
)
def test_the_example_of_a_docstring_runs(documented: ModuleType | Callable[..., object]) -> None:
    name = documented.__name__
    (example,) = doctest.DocTestFinder(recurse=False).find(documented, name, globs={})
    output: list[str] = []

    results = doctest.DocTestRunner().run(example, out=output.append)

    assert results.attempted >= 3
    assert not results.failed, "".join(output)


def test_every_config_is_public() -> None:
    classes = {name for name, value in vars(config).items() if dataclasses.is_dataclass(value)}

    assert classes - set(wavenet.__all__) == set()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Wavenet'"):
        wavenet.Wavenet  # noqa: B018
