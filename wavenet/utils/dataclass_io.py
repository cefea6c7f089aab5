"""Dataclasses of options, from and to plain data, as in JSON and YAML.

An option states its default, help and range in one place:

    lr: float = option(1e-3, "Peak learning rate, reached after the warm-up", gt=0)

`Options` checks the ranges; the commands' base configs and `--help` are made from the same fields.

`from_dict` reads a model directory's `config.json` and a composed config alike. It is closed (an
unknown key is an error that names the nearest known one) and typed (nothing is converted, except an
int to a float).
"""

import dataclasses
import difflib
import functools
import math
import operator
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, Literal, TypeVar

from wavenet.utils.errors import ConfigError, printable
from wavenet.utils.renamed import is_retired, renamed_key

T = TypeVar("T")
MAX_LISTED, NUM_NEAREST = 24, 5  # known names in a message
type_hints = functools.cache(typing.get_type_hints)  # slow, and a manifest has millions of lines


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain data for JSON or YAML: dicts, lists, numbers, strings."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value

    return typing.cast("dict[str, Any]", plain(dataclasses.asdict(config)))


def to_file_dict(config: Any) -> dict[str, Any]:
    """Return `to_dict(config)` without the keys that `added` marks and that have their defaults.

    So a file that does without what was added is still read by versions from before.
    """

    def without_added(config: Any, plain: dict[str, Any]) -> dict[str, Any]:
        kept = {}
        for field in dataclasses.fields(config):
            value, written = getattr(config, field.name), plain[field.name]
            if not (field.metadata.get("added") and value == field.default):
                is_config = dataclasses.is_dataclass(value)
                kept[field.name] = without_added(value, written) if is_config else written
        return kept

    return without_added(config, to_dict(config))


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
        if key not in fields and not is_retired(f"{where}.{key}", data[key]):
            new = renamed_key(f"{where}.{key}")
            if new is not None:
                raise ConfigError(f"{place}{printable(key)!r}: renamed to {new}")
            raise ConfigError(f"{place}unknown key {printable(key)!r}{nearest(key, fields)}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(data[name], hints[name], f"{where}.{name}" if where else name)
        elif field.default is field.default_factory is MISSING:
            raise ConfigError(f"{place}key {name!r} is missing")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{place}{error}") from None


def nearest(key: object, known: typing.Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known key most like `key`, or the list of all.

    Of more than `MAX_LISTED` only the `NUM_NEAREST` most like it are listed.
    """
    names = sorted(map(printable, known))
    close = difflib.get_close_matches(str(key), names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    if len(names) > MAX_LISTED:
        near = difflib.get_close_matches(str(key), names, n=NUM_NEAREST, cutoff=0.0)
        return f"; the nearest of {len(names)} are {', '.join(near)}"
    return f"; known: {', '.join(names)}" if names else ""


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the type `hint`, or raise: no string becomes a number, no float an int."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        kind = typing.cast("type[Any]", hint)
        return value if isinstance(value, kind) else from_dict(kind, value, where)
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
        is_whole = hint is int and type(value) is float and value.is_integer()
        advice = f": write {int(value)}" if is_whole else ""  # 1e3 in YAML is a float
        raise ConfigError(f"{where}: must be {_KINDS[hint]}, got {_show(value)}{printable(advice)}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where}: must be a finite number, got {value}")
    return value


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _show(value: object) -> str:
    kind = {type(None): "nothing", dict: "a mapping", list: "a list"}.get(type(value))
    shown = printable(value) if isinstance(value, (int, float)) else repr(printable(value))
    return kind or f"{shown} ({type(value).__name__})"


def check(good: bool, name: str, wanted: str, found: object) -> None:
    """Raise a `ConfigError` that names the expected value of `name`, unless `good`."""
    if not good:
        raise ConfigError(f"{name} must be {wanted}, got {printable(found)}")


_BOUNDS = {  # of a number, or of each entry of a list
    "gt": (operator.gt, "over {}"),
    "ge": (operator.ge, "{} or more"),
    "lt": (operator.lt, "under {}"),
    "le": (operator.le, "at most {}"),
}


def _is_within(value: float, bounds: Mapping[str, float]) -> bool:
    """Return whether a value keeps its bounds; NaN and infinity keep none."""
    kept = (_BOUNDS[name][0](value, bound) for name, bound in bounds.items())
    return not bounds or (abs(value) < math.inf and all(kept))


def _describe_bounds(bounds: Mapping[str, float]) -> str:
    text = {name: f"{v:g}" if isinstance(v, float) else str(v) for name, v in bounds.items()}
    if {"ge", "le"} <= set(bounds):
        return f"from {text['ge']} to {text['le']}"
    parts = [_BOUNDS[name][1].format(bound) for name, bound in text.items()]
    return ", ".join("positive" if part == "over 0" else part for part in parts)


def option(
    default: Any = MISSING,
    help: str = "",  # noqa: A002
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    min_length: int = 0,
    derived: bool = False,
    added: bool = False,
) -> Any:
    """Return a dataclass field with its help and range.

    Args:
        default: Its default; a required field has none.
        help: One line for the base configs and `--help`.
        gt: The value, or each entry of a list, is greater than this.
        ge: Greater or equal.
        lt: Less than.
        le: Less or equal.
        min_length: Fewest entries of a list.
        derived: The key follows from other keys where a config leaves it out.
        added: The key is younger than the format of model directories, see `to_file_dict`.
    """
    bounds = {"gt": gt, "ge": ge, "lt": lt, "le": le}
    metadata = {
        "help": help,
        "bounds": {name: bound for name, bound in bounds.items() if bound is not None},
        "min_length": min_length,
        "derived": derived,
        "added": added,
    }
    return dataclasses.field(default=default, metadata=metadata)


def key_fields(cls: Any) -> list["dataclasses.Field[Any]"]:
    """Return the fields of a dataclass that are keys of a config: those made by `option`."""
    return [field for field in dataclasses.fields(cls) if "help" in field.metadata]


class Options:
    """Base of dataclasses whose fields are made by `option`; checks their types and ranges."""

    def __post_init__(self) -> None:
        check_types(self)
        for field in dataclasses.fields(typing.cast(Any, self)):
            bounds, value = field.metadata.get("bounds"), getattr(self, field.name)
            if bounds is None or value is None:
                continue
            entries = value if isinstance(value, tuple) else (value,)
            length = field.metadata["min_length"]
            wanted = f"a list of {length} {'entry or more' if length == 1 else 'or more entries'}"
            check(len(entries) >= length, field.name, wanted, list(entries))
            good = all(_is_within(entry, bounds) for entry in entries)
            check(good, field.name, describe_range(type(self), field), value)

    def check_files(self) -> None:
        """Refuse what files and folders rule out, before torch and the model are loaded."""


def check_types(config: Any) -> None:
    """Raise a `ConfigError` where a value of a dataclass has another type than its field.

    A list becomes a tuple, so that the config stays hashable; numbers of NumPy become Python's.
    """
    cls: type = type(config)
    for field in dataclasses.fields(config):
        value, inner = getattr(config, field.name), nested_dataclass(cls, field)
        if inner is not None:
            good = value is None or isinstance(value, inner)
            check(good, field.name, f"a {inner.__name__} or None", _show(value))
            continue
        plain = _without_numpy(value)
        converted = _convert(plain, type_hints(cls)[field.name], field.name)
        if isinstance(value, list) or plain is not value:
            object.__setattr__(config, field.name, converted)


def _without_numpy(value: Any) -> Any:
    if type(value).__module__ == "numpy":
        return value.tolist()
    if isinstance(value, (list, tuple)):
        plain = [_without_numpy(entry) for entry in value]
        return plain if any(a is not b for a, b in zip(plain, value, strict=True)) else value
    return value


def describe_range(cls: type, field: "dataclasses.Field[Any]") -> str:
    """Return in words what values a field takes, such as `positive, or null`; empty for any."""
    hint = type_hints(cls)[field.name]
    text = _describe_bounds(field.metadata["bounds"])
    for member in _members(hint):
        if typing.get_origin(member) is tuple:
            text += " each" * bool(text)
            member = typing.get_args(member)[0]
        if typing.get_origin(member) is Literal:
            text = ", ".join(map(str, typing.get_args(member)))
    return text + (", or null" if text and type(None) in _members(hint) else "")


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def nested_dataclass(cls: type, field: "dataclasses.Field[Any]") -> type | None:
    """Return the dataclass that a field holds, whether or not it may be null."""
    found = (m for m in _members(type_hints(cls)[field.name]) if dataclasses.is_dataclass(m))
    return typing.cast("type | None", next(found, None))


def plain_default(field: "dataclasses.Field[Any]") -> Any:
    """Return the default of a field; null for a derived one, `???` for one that must be given."""
    if field.metadata["derived"]:
        return None
    default = "???" if field.default is MISSING else field.default  # of OmegaConf
    return list(default) if isinstance(default, tuple) else default


def default_config(cls: Any) -> dict[str, Any]:
    """Return the defaults of a dataclass as plain data, see `plain_default`.

    A field that holds a dataclass is a mapping of its defaults, unless it is null by default.
    """
    plain: dict[str, Any] = {}
    for field in key_fields(cls):
        inner, default = nested_dataclass(cls, field), plain_default(field)
        plain[field.name] = default if inner is None or default is None else default_config(inner)
    return plain
