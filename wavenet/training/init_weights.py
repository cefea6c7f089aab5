"""The first weights of a run that is started with `init=MODEL`: what is copied, what is new.

Tensors are copied by name, bit for bit, and must have the same shape. Two kinds are put together:

- The speaker embedding: rows are copied by the speakers' names, and that of the null speaker; a new
  speaker starts from the mean of all.
- The 1x1 convolutions on the conditioning: their columns belong to the local or to the global
  conditioner. Those of a conditioner that is new start at zero, so that the model first computes
  what it computes without it.

What `init_ignore` names starts from new weights.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wavenet.checkpoint import Checkpoint
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet
from wavenet.modules.compat.weight_norm import (
    Entry,
    convert_weight_norm,
    fit_entries,
    read_entries,
)
from wavenet.training.freeze import select_parameters
from wavenet.utils.errors import ConfigError, printable

SPEAKERS = "global_conditioner.speaker_embedding.weight"
COLUMNS = ".conditioning_conv.weight"  # of each block
CONDITIONERS = ("local_conditioner", "global_conditioner")  # in the order of their columns


@dataclass(frozen=True)
class Parts:
    """The tensors of a model and of the one that its first weights come from.

    Attributes:
        new: Tensors of the model, by name as without weight norm.
        old: Those of the other one.
        ignored: Names of tensors that start from new weights, or that the model does without.
        ignored_modules: Conditioners among `init_ignore`.
    """

    new: Mapping[str, Entry]
    old: Mapping[str, Entry]
    ignored: set[str] = field(default_factory=set)
    ignored_modules: set[str] = field(default_factory=set)

    @classmethod
    def between(cls, model: nn.Module, base: nn.Module, ignore: Sequence[str]) -> "Parts":
        """Return the parts of two models.

        Raises:
            ConfigError: A pattern of `init_ignore` matches nothing in either.
        """
        new, old = read_entries(model.state_dict()), read_entries(base.state_dict())
        ignored = select_parameters(ignore, [*new, *old], "init_ignore")
        modules = {name for name in CONDITIONERS if is_ignored(name, ignore)}
        return cls(new, old, ignored, modules)

    def are_ignored(self, module: str) -> bool:
        """Return whether all tensors of a module start from new weights."""
        names = [name for name in (*self.new, *self.old) if name.startswith(f"{module}.")]
        return self.ignored.issuperset(names)

    def _fit(self, name: str) -> bool:
        """Return whether a tensor can be copied; of rows and columns only the other axis counts."""
        there, here = _shape(self.old, name), _shape(self.new, name)
        if there is None or here is None:
            return there is here or name.endswith(COLUMNS)
        if name == SPEAKERS:
            return there[1:] == here[1:]
        return there[:1] == here[:1] if name.endswith(COLUMNS) else there == here

    def check_shapes(self, base_name: str) -> None:
        """Raise a `ConfigError` about the first tensor that cannot be copied, unless all can."""
        different = [
            name
            for name in {**self.new, **self.old}
            if name not in self.ignored and not self._fit(name)
        ]
        if not different:
            return
        name = different[0]
        modules = list(dict.fromkeys(name.partition(".")[0] for name in different))
        others = f" (and {len(different) - 1} tensors more)" if len(different) > 1 else ""
        raise ConfigError(
            f"init={printable(base_name)}: {name} is {_shape(self.old, name) or 'absent'} in it "
            f"and {_shape(self.new, name) or 'absent'} in this run{others}: leave model.* out, or "
            f"init_ignore=[{','.join(modules)}] starts those from new weights"
        )


def is_ignored(module: str, ignore: Sequence[str]) -> bool:
    """Return whether `init_ignore` names a module."""
    return any(fnmatch.fnmatchcase(module, pattern) for pattern in ignore)


def copy_weights(
    model: WaveNet, base: Checkpoint, speaker_names: Sequence[str], ignore: Sequence[str]
) -> list[str]:
    """Replace the weights of a new model by those of another one; return what was done, in lines.

    Args:
        model: Changed in place; tensors that `ignore` selects keep their values.
        base: The other model, of the same shape in everything else.
        speaker_names: Speakers of `model`, in order.
        ignore: `init_ignore`.
    """
    parts, lines = Parts.between(model, base.model, ignore), []
    given: dict[str, Tensor] = {}
    for name, entry in parts.new.items():
        if name in parts.ignored:
            given.update(zip(entry.names, entry.values, strict=True))
        elif name == SPEAKERS:
            rows = parts.old[name].values[0]
            given[name], line = _speaker_rows(rows, base.audio.speaker_names, speaker_names)
            lines.append(line)
        elif name.endswith(COLUMNS) and not _same_columns(model.config, base.model.config, parts):
            given[name] = _columns(model.config, base.model.config, parts, name)
        else:
            given.update(zip(parts.old[name].names, parts.old[name].values, strict=True))
    model.load_state_dict(fit_entries(given, model.state_dict()))
    return lines + _new_weights(parts)


def _speaker_rows(
    old: Tensor, old_names: Sequence[str], names: Sequence[str]
) -> tuple[Tensor, str]:
    """Return the rows of some speakers, that of the null speaker last, and what they are."""
    rows = {name: old[row] for row, name in enumerate(old_names)}
    mean = old[:-1].mean(dim=0)
    known = [name for name in names if name in rows]
    new = [name for name in names if name not in rows]
    left_out = [name for name in rows if name not in names]
    line = f"speakers: copied {_listed(known)}; new, from the mean of all: {_listed(new)}"
    if left_out:
        line += f"; left out: {_listed(left_out)}"
    return torch.stack([*(rows.get(name, mean) for name in names), old[-1]]), line


def _columns(config: WaveNetConfig, base: WaveNetConfig, parts: Parts, name: str) -> Tensor:
    """Return the weight of a convolution on the conditioning: what can be copied, else zeros."""
    weight = torch.zeros_like(_plain(parts.new[name]))
    if name not in parts.old:
        return weight
    old, there = _plain(parts.old[name]), _slices(base)
    for conditioner, columns in _slices(config).items():
        if conditioner in there and conditioner not in parts.ignored_modules:
            weight[:, columns] = old[:, there[conditioner]].to(weight)
    return weight


def _same_columns(config: WaveNetConfig, base: WaveNetConfig, parts: Parts) -> bool:
    return _slices(config) == _slices(base) and not parts.ignored_modules


def _slices(config: WaveNetConfig) -> dict[str, slice]:
    """Return the columns of each conditioner of a model."""
    width = 0 if config.local is None else config.local.channels
    slices = {"local_conditioner": slice(0, width)} if width else {}
    if config.has_global_conditioning:
        slices["global_conditioner"] = slice(width, width + config.global_channels)
    return slices


def _new_weights(parts: Parts) -> list[str]:
    """Return lines about what is new and what is not used."""
    new = [name for name in parts.new if name in parts.ignored]
    gone = [name for name in parts.old if name not in parts.new]
    lines = [f"new weights: {_modules(new, parts.new)}"] * bool(new)
    return lines + [f"not used: {_modules(gone, parts.old)}"] * bool(gone)


def _modules(names: Sequence[str], all_names: Mapping[str, Entry]) -> str:
    """Return the shortest names of modules and tensors that make up `names`."""
    chosen: list[str] = []
    others = set(all_names) - set(names)
    for name in names:
        pieces = name.split(".")
        prefixes = [".".join(pieces[:length]) for length in range(1, len(pieces) + 1)]
        whole = next(
            prefix
            for prefix in prefixes
            if prefix == name or not any(other.startswith(f"{prefix}.") for other in others)
        )
        chosen.append(whole)
    return ", ".join(dict.fromkeys(chosen))


def _plain(entry: Entry) -> Tensor:
    """Return the weight of an entry, multiplied out if it is normalized."""
    converted = convert_weight_norm(dict(zip(entry.names, entry.values, strict=True)), "plain")
    (weight,) = converted.values()
    assert isinstance(weight, Tensor)
    return weight


def _shape(entries: Mapping[str, Entry], name: str) -> tuple[int, ...] | None:
    return tuple(entries[name].values[-1].shape) if name in entries else None


def _listed(names: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(map(printable, names[:limit])) or "none") + more
