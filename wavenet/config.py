"""What fixes the shape of a model's weights, and how any config is read from plain data.

A config is a frozen dataclass that checks itself once. `from_dict` is the one way in, for a
checkpoint's `config.json` and for a recipe alike: closed (an unknown key is an error that names
the nearest known one) and typed (nothing is converted, save an int where a float is wanted).
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from wavenet.errors import ConfigError, printable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """Shape of a `WaveNet`.

    Attributes:
        levels: Classes of the mu-law categorical output (256 for 8 bits).
        input: What the first convolution sees: `embedding`, the class of each sample (one-hot), or
            `scalar`, its value.
        input_kernel_size: Taps of the first causal convolution.
        dilations: Samples between taps, one entry a block.
        kernel_size: Taps of each dilated convolution.
        residual_channels: Width of the path from block to block.
        gate_channels: Width of the gated convolution, tanh and sigmoid halves together.
        skip_channels: Width of the sum of all blocks that the head reads.
        head_channels: Width between the two last 1x1 convolutions.
        bias: Whether convolutions have biases.
        dropout: Probability of dropping an input of a dilated convolution in training.
        weight_norm: Whether convolution weights are learnt as length and direction.
        residual_scale: Factor on each block's sum of input and residual output.
        skip_scale: Factor on the sum of the skip outputs.
    """

    levels: int = 256
    input: Literal["embedding", "scalar"] = "embedding"
    input_kernel_size: int = 1
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) * 3
    kernel_size: int = 2
    residual_channels: int = 64
    gate_channels: int = 128
    skip_channels: int = 256
    head_channels: int = 256
    bias: bool = True
    dropout: float = 0.0
    weight_norm: bool = False
    residual_scale: float = 1.0
    skip_scale: float = 1.0

    def __post_init__(self) -> None:
        check(2 <= self.levels <= 65536, "levels", "from 2 to 65536", self.levels)
        check(bool(self.dilations), "dilations", "one entry a block", self.dilations)
        check(min(self.dilations) >= 1, "dilations", "1 or more each", self.dilations)
        check(max(self.dilations) <= 2**24, "dilations", "2**24 at most", max(self.dilations))
        check(len(self.dilations) <= 1000, "dilations", "1000 at most", len(self.dilations))
        for name in ("kernel_size", "input_kernel_size"):
            check(1 <= getattr(self, name) <= 1024, name, "from 1 to 1024", getattr(self, name))
        for name in ("residual_channels", "gate_channels", "skip_channels", "head_channels"):
            check(1 <= getattr(self, name) <= 65536, name, "1 to 65536", getattr(self, name))
        check(self.gate_channels % 2 == 0, "gate_channels", "even", self.gate_channels)
        check(0.0 <= self.dropout < 1.0, "dropout", "in [0, 1)", self.dropout)
        for name in ("residual_scale", "skip_scale"):
            value = getattr(self, name)
            check(math.isfinite(value) and value > 0, name, "positive", value)

    @property
    def receptive_field(self) -> int:
        """Past samples that the distribution of one sample depends on."""
        return self.input_kernel_size + (self.kernel_size - 1) * sum(self.dilations)

    def receptive_field_seconds(self, sample_rate: int) -> float:
        """Return the receptive field in seconds of audio at `sample_rate`."""
        return self.receptive_field / sample_rate

    @property
    def effective_kernel_sizes(self) -> tuple[int, ...]:
        """Samples from first to last tap of each block, both counted: k + (k-1)(dilation-1)."""
        k = self.kernel_size
        return tuple(k + (k - 1) * (dilation - 1) for dilation in self.dilations)


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """What a model's signal means outside the model.

    Attributes:
        sample_rate: Samples a second, in Hz.
        companding: How a categorical output's classes lie on [-1, 1].
    """

    sample_rate: int = 16000
    companding: Literal["mu-law"] = "mu-law"

    def __post_init__(self) -> None:
        check(1 <= self.sample_rate <= 768000, "sample_rate", "1 to 768000", self.sample_rate)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain data for JSON or YAML: dicts, lists, numbers, strings."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value

    return typing.cast("dict[str, Any]", plain(dataclasses.asdict(config)))


def narrow(cls: type[T], config: Any) -> T:
    """Return the part of `config`, of a subclass of the dataclass `cls`, that is `cls`'s own."""
    names = [field.name for field in dataclasses.fields(typing.cast(Any, cls))]
    return cls(**{name: getattr(config, name) for name in names})


def from_dict(cls: type[T], data: Any, where: str = "") -> T:
    """Build the dataclass `cls` from plain data; closed and typed.

    Args:
        cls: A dataclass.
        data: A mapping with a value of the right type for each field that has no default.
        where: Name of `data` in messages, such as `model` or `config.json: model`.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type or range.
    """
    place = f"{where}: " if where else ""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{place}must be a mapping of keys, got {_show(data)}")
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
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
    names = sorted(known)
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
    """Raise a `ConfigError` that says what `name` must be, unless `good`."""
    if not good:
        raise ConfigError(f"{name} must be {wanted}, got {printable(found)}")
