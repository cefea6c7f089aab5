"""Options: dataclass fields that state their default, help and range in one place.

    lr: float = option(1e-3, "Peak learning rate, reached after the warm-up", gt=0)

`Options` checks the ranges; the commands' base configs and `--help` are made from the same fields.
"""

import dataclasses
import math
import types
import typing
from dataclasses import MISSING, dataclass
from typing import Any, Literal

from wavenet.utils.dataclass_io import check, type_hints

REQUIRED = "???"  # OmegaConf's value of a key that must be given


@dataclass(frozen=True)
class Range:
    """Bounds of a number, or of each entry of a list: above, from, below, up to."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    def __contains__(self, value: float) -> bool:
        if self == Range():
            return True
        return (
            abs(value) < math.inf  # false for NaN too
            and (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )

    def __str__(self) -> str:
        def text(bound: float) -> str:
            return f"{bound:g}" if isinstance(bound, float) else str(bound)

        if self.ge is not None and self.le is not None:
            return f"from {text(self.ge)} to {text(self.le)}"
        parts = []
        if self.gt is not None:
            parts.append(f"over {text(self.gt)}" if self.gt else "positive")
        if self.ge is not None:
            parts.append(f"{text(self.ge)} or more")
        if self.lt is not None:
            parts.append(f"under {text(self.lt)}")
        if self.le is not None:
            parts.append(f"at most {text(self.le)}")
        return ", ".join(parts)


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
    """
    metadata = {
        "help": help,
        "range": Range(gt, ge, lt, le),
        "min_length": min_length,
        "derived": derived,
    }
    return dataclasses.field(default=default, metadata=metadata)


class Options:
    """Base of dataclasses whose fields are made by `option`; checks their ranges."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(typing.cast(Any, self)):
            allowed = field.metadata.get("range")
            value = getattr(self, field.name)
            if allowed is None or value is None:
                continue
            entries = value if isinstance(value, tuple) else (value,)
            length = field.metadata["min_length"]
            check(len(entries) >= length, field.name, _entries(length), list(entries))
            good = all(entry in allowed for entry in entries)
            check(good, field.name, describe_range(type(self), field), value)


def _entries(length: int) -> str:
    return f"a list of {length} or more entries" if length > 1 else "a list of 1 entry or more"


def describe_range(cls: type, field: "dataclasses.Field[Any]") -> str:
    """Return in words what values a field takes, such as `positive, or null`; empty for any."""
    hint = type_hints(cls)[field.name]
    text = str(field.metadata["range"])
    alternatives = _members(hint)
    if any(typing.get_origin(member) is tuple for member in alternatives):
        (member,) = (m for m in alternatives if typing.get_origin(m) is tuple)
        alternatives = typing.get_args(member)[:1]
        text += " each" * bool(text)
    for member in alternatives:
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


def default_config(cls: type) -> dict[str, Any]:
    """Return the defaults of a dataclass as plain data; `???` for what must be given.

    A derived field is null. A field that holds a dataclass is a mapping of that one's defaults,
    unless it is null by default.
    """
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, cls)):
        inner = nested_dataclass(cls, field)
        if field.metadata.get("derived"):
            plain[field.name] = None
        elif inner is not None and field.default is not None:
            plain[field.name] = default_config(inner)
        else:
            default = REQUIRED if field.default is MISSING else field.default
            plain[field.name] = list(default) if isinstance(default, tuple) else default
    return plain
