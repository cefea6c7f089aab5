"""Fields with default, help and range in one place."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest

from wavenet.utils.dataclass_io import (
    Options,
    default_config,
    describe_range,
    from_dict,
    option,
    to_dict,
    to_file_dict,
)
from wavenet.utils.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner(Options):
    """A nested dataclass."""

    size: int = option(help="Size", ge=1)


@dataclass(frozen=True, kw_only=True)
class Outer(Options):
    """Every kind of field."""

    rate: float = option(1.0, "Rate", gt=0)
    share: float = option(0.5, "Share", ge=0, lt=1)
    limit: float | None = option(None, "Limit", gt=0, le=1e9)
    sizes: tuple[int, ...] = option((1,), "Sizes", ge=1, le=9, min_length=1)
    kind: Literal["a", "b"] = option("a", "Kind")
    inner: Inner | None = option(None, "Inner")
    given: int = option(help="Given")
    follows: int = option(3, "Follows", derived=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rate", 0.0, "rate must be positive, got 0.0"),
        ("rate", math.nan, "rate: must be a finite number, got nan"),
        ("rate", math.inf, "rate: must be a finite number, got inf"),
        ("share", 1.0, "share must be 0 or more, under 1, got 1.0"),
        ("limit", 1e10, "limit must be positive, at most 1e+09, or null, got 10000000000.0"),
        ("sizes", (1, 10), "sizes must be from 1 to 9 each"),
        ("sizes", (), "sizes must be a list of 1 entry or more"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(
    key: str, value: object, message: str
) -> None:
    arguments: dict[str, Any] = {"given": 1, key: value}

    with pytest.raises(ConfigError) as caught:
        Outer(**arguments)

    assert str(caught.value).startswith(message)


def test_a_nested_range_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigError, match="inner: size must be 1 or more, got 0"):
        from_dict(Outer, {"given": 1, "inner": {"size": 0}})


def test_the_default_config_has_every_key_and_marks_required_ones() -> None:
    assert default_config(Outer) == {
        "rate": 1.0,
        "share": 0.5,
        "limit": None,
        "sizes": [1],
        "kind": "a",
        "inner": None,
        "given": "???",
        "follows": None,
    }


def test_a_range_is_described_with_its_choices_and_null() -> None:
    described = {field.name: describe_range(Outer, field) for field in fields(Outer)}

    assert described["kind"] == "a, b"
    assert described["limit"] == "positive, at most 1e+09, or null"
    assert described["given"] == ""


def test_added_keys_are_in_files_where_they_are_not_the_default() -> None:
    @dataclass(frozen=True)
    class Younger(Options):
        old: int = option(1)
        new: int = option(2, added=True)

    @dataclass(frozen=True)
    class Pair:
        first: Younger
        second: Younger | None = None

    assert to_file_dict(Pair(Younger())) == {"first": {"old": 1}, "second": None}
    changed = Pair(Younger(old=1, new=3), Younger(old=2))
    assert to_file_dict(changed) == {"first": {"old": 1, "new": 3}, "second": {"old": 2}}
    assert to_dict(changed)["second"] == {"old": 2, "new": 2}
