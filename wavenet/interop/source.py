"""What an importer works with: weights that are each taken once, and a config with typed keys."""

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavenet.checkpoint import all_finite
from wavenet.config import AudioConfig
from wavenet.model import WaveNet
from wavenet.model_card import TrainingInfo
from wavenet.modules.compat.weight_norm import convert_weight_norm, read_entries
from wavenet.utils.errors import CheckpointError, ConfigError, listed, printable

REQUIRED: Any = object()


class Imported(NamedTuple):
    """Another project's model as ours.

    Attributes:
        model: In evaluation mode.
        audio: Meaning of its signal, and what it is conditioned on.
        training: What the file says about its training.
        notes: Sentences on what is not as in the other project.
    """

    model: WaveNet
    audio: AudioConfig
    training: TrainingInfo
    notes: tuple[str, ...]


class Weights:
    """The weights of another project's model, each to be taken once.

    Weight norm in any form is folded in float64: `w = g * v / |v|`.

    Args:
        tensors: By name. Keep no other reference to them: each is freed once it was taken.

    Raises:
        CheckpointError: A weight is there in two forms.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        try:
            self._entries = read_entries(tensors)
        except ValueError as error:
            raise CheckpointError(f"is inconsistent: {error}") from error
        self._optional: dict[str, dict[str, bool]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Return the names of the weights that are left."""
        return list(self._entries)

    def count(self, pattern: str) -> int:
        """Return how many weights there are by a name with a number in it, `{}`, from 0 on."""
        found = 0
        while pattern.format(found) in self._entries:
            found += 1
        return found

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return the shape of a weight.

        Raises:
            CheckpointError: It is missing, or has another number of dimensions.
        """
        found = self._shape(name)
        if len(found) != dimensions:
            raise CheckpointError(
                f"has {name} of shape {_text(found)}, expected {dimensions} dimensions"
            )
        return found

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._entries:
            raise CheckpointError(f"has no tensor {name}: it is incomplete, or of another project")
        return tuple(self._entries[name].values[-1].shape)

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a weight in float64, and check it.

        Args:
            name: Its plain name.
            shape: What it must have; -1 for any length.

        Raises:
            CheckpointError: It is missing, of another shape or type, or holds NaN or infinity.
        """
        found = self._shape(name)
        entry = self._entries.pop(name)
        if not all(value.is_floating_point() for value in entry.values):
            kinds = ", ".join(str(value.dtype) for value in entry.values)
            raise CheckpointError(f"holds {kinds} as {name}, expected floating-point numbers")
        values = {key: value.double() for key, value in zip(entry.names, entry.values, strict=True)}
        try:
            (value,) = convert_weight_norm(values, "plain").values()
            tensor: Tensor = value
        except ValueError as error:
            raise CheckpointError(f"has no whole weight norm: {error}") from error
        good = len(found) == len(shape) and all(
            length in (-1, real) for length, real in zip(shape, found, strict=False)
        )
        if not good:
            wanted = tuple("any" if length < 0 else length for length in shape)
            raise CheckpointError(f"has {name} of shape {_text(found)}, expected {_text(wanted)}")
        if not all_finite(tensor):
            raise CheckpointError(f"holds NaN or infinity in {name}: use an earlier checkpoint")
        return tensor

    def take_if_there(self, name: str, *shape: int) -> Tensor | None:
        """Return a weight as `take` does; `None` if there is none of that name.

        All blocks must have it or none, which `finish` checks.
        """
        found = name in self._entries
        self._optional.setdefault(re.sub(r"\d+", "*", name), {})[name] = found
        return self.take(name, *shape) if found else None

    def finish(self) -> None:
        """Check that everything was taken.

        Raises:
            CheckpointError: Weights are left, or some blocks lack what others have; it names them.
        """
        for found in self._optional.values():
            if len(set(found.values())) > 1:
                missing = [name for name, there in found.items() if not there]
                raise CheckpointError(f"lacks tensors that other blocks have:{listed(missing)}")
        if self._entries:
            names = [printable(name) for name in self._entries]
            raise CheckpointError(f"has tensors that its project's model has not:{listed(names)}")


class Folded(dict[str, Tensor]):
    """Tensors by our names, each converted and copied as it is entered, so that memory is freed."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        kept = tensor.to(self.dtype, copy=True, memory_format=torch.contiguous_format)
        super().__setitem__(name, kept)


def _text(shape: tuple[object, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


@dataclass(frozen=True)
class Fields:
    """Keys of another project's config.

    Attributes:
        values: The keys; empty without a config.
        name: Of the file, for messages.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    name: str = "config"

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, key: str, default: Any = REQUIRED, *, least: int = 1) -> Any:
        """Return a whole number of `least` or more, or the default where it is absent or null."""
        value = self._get(key, default)
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        whole = real and least <= value < 2**31 and value == int(value)
        if key in self and not whole:
            raise self._wrong(key, f"a whole number of {least} or more", value)
        return int(value) if key in self else value

    def number(self, key: str, default: Any = REQUIRED) -> Any:
        """Return a finite number, or the default."""
        value = self._get(key, default)
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        if key in self and not (real and abs(value) < 1e300):
            raise self._wrong(key, "a number", value)
        return float(value) if key in self else value

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of positive whole numbers."""
        value = self._get(key, REQUIRED)
        good = isinstance(value, (list, tuple)) and all(
            type(one) is int and 0 < one < 2**31 for one in value
        )
        if not good or not value:
            raise self._wrong(key, "a list of positive whole numbers", value)
        return tuple(value)

    def text(self, key: str, default: Any = REQUIRED) -> Any:
        """Return text that can be shown, or the default."""
        value = self._get(key, default)
        if key in self and not isinstance(value, str):
            raise self._wrong(key, "text", value)
        return printable(value) if key in self else value

    def truth(self, key: str, default: bool) -> bool:
        """Return true or false, also given as 1 or 0."""
        value = self._get(key, default)
        if value not in (True, False):
            raise self._wrong(key, "true or false", value)
        return bool(value)

    def section(self, key: str) -> "Fields":
        """Return the keys inside a mapping; none where it is absent."""
        value = self._get(key, {})
        if not isinstance(value, Mapping):
            raise self._wrong(key, "a mapping", value)
        return Fields(value, f"{self.name}: {key}")

    def _get(self, key: str, default: Any) -> Any:
        if key in self:
            return self.values[key]
        if default is REQUIRED:
            found = ", ".join(printable(known) for known in list(self.values)[:8])
            raise ConfigError(
                f"{self.name}: key {key!r} is missing, which the weights do not tell; it has "
                f"{found or 'no keys'}"
            )
        return default

    def _wrong(self, key: str, wanted: str, found: Any) -> ConfigError:
        try:
            shown = printable(
                found if isinstance(found, (str, int, float)) else reprlib.repr(found)
            )
        except ValueError:  # Python's limit of an integer's digits
            shown = "an integer of thousands of digits"
        return ConfigError(f"{self.name}: {key} must be {wanted}, got {shown}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model of another project, as read.

    Attributes:
        path: The file, or the prefix of a TensorFlow checkpoint.
        weights: The weights.
        attributes: Of the module that was pickled; empty for a state dict.
        config: Its config; empty if none was given or found.
        sample_rate: As given, in Hz.
        mean: Of each mel band or channel of a frame, as given.
        std: Of each mel band or channel of a frame, as given.
        steps: Updates, as far as the file says.
        dtype: Of the imported weights.
    """

    path: Path
    weights: Weights
    attributes: Mapping[str, Any]
    config: Fields
    sample_rate: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    steps: int
    dtype: torch.dtype

    def new_tensors(self) -> Folded:
        """Return where an importer enters the weights by our names."""
        return Folded(self.dtype)
