"""Dataclasses from and to plain data, as in JSON and YAML.

`from_dict` reads a model directory's `config.json` and a composed config alike. It is closed (an
unknown key is an error that names the nearest known one) and typed (nothing is converted, except an
int to a float).
"""

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from wavenet.utils.errors import ConfigError, printable
from wavenet.utils.renamed import renamed_key

T = TypeVar("T")
type_hints = functools.cache(typing.get_type_hints)  # slow, and a manifest has millions of lines


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain data for JSON or YAML: dicts, lists, numbers, strings."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value

    return typing.cast("dict[str, Any]", plain(dataclasses.asdict(config)))


def narrow(cls: type[T], config: Any) -> T:
    """Return the fields of the dataclass `cls` from `config`, an instance of a subclass."""
    names = [field.name for field in dataclasses.fields(typing.cast(Any, cls))]
    return cls(**{name: getattr(config, name) for name in names})


def from_dict(cls: type[T], data: Any, where: str = "") -> T:
    """Build the dataclass `cls` from plain data; closed and typed.

    Args:
        cls: A dataclass.
        data: A mapping with a value of the right type for each required field.
        where: Name of `data` in messages, such as `model` or `config.json: model`.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type or range.
    """
    place = f"{where}: " if where else ""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{place}must be a mapping of keys, got {_show(data)}")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    hints = type_hints(typing.cast(Any, cls))
    for key in data:
        if key not in fields:
            new = renamed_key(f"{where}.{key}")
            if new is not None:
                raise ConfigError(f"{place}{printable(key)!r}: renamed to {new}")
            raise ConfigError(f"{place}unknown key {printable(key)!r}{nearest(key, fields)}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(data[name], hints[name], f"{where}.{name}" if where else name)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{place}key {name!r} is missing")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{place}{error}") from None


def nearest(key: object, known: typing.Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known key most like `key`, or the list of all."""
    names = sorted(map(printable, known))
    close = difflib.get_close_matches(str(key), names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the type `hint`, or raise: no string becomes a number, no float an int."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (inner,) = (arg for arg in args if arg is not type(None))
        return _convert(value, inner, where)
    if origin is Literal:
        if value in args and type(value) in {type(arg) for arg in args}:
            return value
        raise ConfigError(
            f"{where}: must be one of {', '.join(map(str, args))}, got {_show(value)}"
        )
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: must be a list, got {_show(value)}")
        return tuple(_convert(entry, args[0], f"{where}[{i}]") for i, entry in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: must be a mapping of keys, got {_show(value)}")
        return {key: _convert(entry, args[1], f"{where}.{key}") for key, entry in value.items()}
    return _convert_plain(value, hint, where)


def _convert_plain(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 10**300 else math.inf
    if type(value) is not hint:
        raise ConfigError(f"{where}: must be {_KINDS[hint]}, got {_show(value)}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where}: must be a finite number, got {value}")
    return value


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _show(value: object) -> str:
    kind = {type(None): "nothing", dict: "a mapping", list: "a list"}.get(type(value))
    return kind or f"{printable(value)!r} ({type(value).__name__})"


def check(good: bool, name: str, wanted: str, found: object) -> None:
    """Raise a `ConfigError` that names the expected value of `name`, unless `good`."""
    if not good:
        raise ConfigError(f"{name} must be {wanted}, got {printable(found)}")
