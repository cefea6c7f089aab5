"""The three forms in which a state dict holds a weight-normalized weight, read into any of them.

    legacy        weight_g, weight_v                          torch.nn.utils.weight_norm
    parametrized  parametrizations.weight.original0, ...1     torch.nn.utils.parametrizations
    plain         weight                                      weight norm removed, or never there

`weight = g * v / |v|` in all of them, with the norm over every axis but one, which the shape of `g`
tells. PyTorch 2.1 changed the names from the first form to the second; a module of one form cannot
in general load the others.

Weight normalization: Salimans and Kingma 2016 (arXiv:1602.07868).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

Form = Literal["plain", "parametrized", "legacy"]

PARAMETRIZED = re.compile(r"(?P<module>(?:.*\.)?)parametrizations\.(?P<name>[^.]+)\.original[01]")
LEGACY = re.compile(r"(?P<module>(?:.*\.)?)(?P<name>[^.]+)_[gv]")
NAMES_SHOWN = 3  # in a message


@dataclass
class Entry:
    """What a state dict holds for one weight: the tensor, or `g` and `v`, under their names."""

    names: tuple[str, ...]
    values: tuple[Any, ...]


def convert_weight_norm(state_dict: Mapping[str, Any], to: Form) -> dict[str, Any]:
    """Return a state dict whose weight-normalized weights have the form `to`.

    Everything else is passed on: a plain weight too, since only the module that it is for knows
    whether it is normalized (see `load_weights`). No tensor is changed or copied; `plain` weights
    are new tensors, bit for bit those that PyTorch computes.

    Args:
        state_dict: Of any modules, nested at will, in any of the forms, mixed too.
        to: `plain`, `parametrized` or `legacy`.

    Raises:
        ValueError: The form is unknown, a `weight_g` lacks its `weight_v`, or a weight is there in
            two forms.
    """
    if to not in get_args(Form):
        raise ValueError(f"to must be {', '.join(get_args(Form))}, got {to!r}")
    converted = {}
    for name, entry in read_entries(state_dict).items():
        if len(entry.values) == 1:
            if re.search(r"(^|\.)weight_[gv]$", name):
                raise ValueError(f"{name} has no {name[:-1]}{'gv'[name[-1] == 'g']} that fits it")
            converted[name] = entry.values[0]
        elif to == "plain":
            converted[name] = _joined(*entry.values)
        else:
            converted.update(zip(_names_in_form(name, to), entry.values, strict=True))
    return converted


@torch.no_grad()
def load_weights(module: nn.Module, state_dict: Mapping[str, Any], *, prefix: str = "") -> None:
    """Load a state dict into a module, whichever forms of weight norm the two have.

    A plain weight is split for a normalized module; `g` and `v` are joined for a plain one, in its
    precision.

    Args:
        module: Any module.
        state_dict: All its weights and no others, apart from the form.
        prefix: Take the entries whose names start with this, without it, and leave the others.

    Raises:
        ValueError: Weights are missing, unknown, of another shape, or there in two forms.
    """
    own = {
        name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)
    }
    if not own and state_dict:
        first = next(iter(state_dict))
        raise ValueError(f"no name starts with prefix={prefix!r}, the first is {first}")
    given, wanted = read_entries(own), read_entries(module.state_dict())
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if missing or unknown:
        parts = [f"{_listed(missing)} missing"] * bool(missing)
        parts += [f"{_listed(unknown)} unknown"] * bool(unknown)
        ends = tuple(f".{name}" for name in missing[:1])
        found = [prefix + n.removesuffix(ends[0][1:]) for n in unknown if n.endswith(ends)]
        deeper = [f"; prefix={name!r}?" for name in found]
        raise ValueError(
            f"the weights do not fit {type(module).__name__}: {', '.join(parts)}"
            f"{''.join(deeper[:1])}"
        )
    module.load_state_dict(
        {name: value for key in wanted for name, value in _fitted(key, given[key], wanted[key])}
    )


def read_entries(state_dict: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the entries of a state dict by the plain names of their weights, in its order.

    Raises:
        ValueError: See `convert_weight_norm`.
    """
    entries: dict[str, Entry] = {}
    for name, value in state_dict.items():
        plain = _plain_name(name)
        entry = Entry((name,), (value,))
        for form in ("parametrized", "legacy"):
            pair = _names_in_form(plain, form)
            if name in pair and _is_normalized(*map(state_dict.get, pair)):
                entry = Entry(pair, tuple(state_dict[part] for part in pair))
        key = plain if len(entry.names) == 2 else name
        if key in entries and entries[key].names != entry.names:
            found = " and ".join(sorted((*entries[key].names, *entry.names)))
            raise ValueError(f"{key} is there in two forms, {found}: leave one out")
        entries[key] = entry
    return entries


def fit_entries(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` with its weights in the forms that those of the same name in `wanted` have."""
    entries, targets = read_entries(given), read_entries(wanted)
    fitted: dict[str, Any] = {}
    for key, entry in entries.items():
        target = targets.get(key, entry)
        if len(target.names) == len(entry.names):  # PyTorch checks the shapes
            fitted.update(zip(target.names, entry.values, strict=True))
        else:
            fitted.update(_fitted(key, entry, target))
    return fitted


def split_weight(weight: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """Return `g` and `v` of a weight; `dim=-1` is one norm for all of it.

    Slices of zeros, whose direction is undefined, have `v = 1`, where PyTorch has 0 and returns
    NaN.
    """
    g = torch.norm_except_dim(weight, 2, dim)
    return g, torch.where(g == 0, torch.ones_like(weight), weight)


def _fitted(key: str, given: Entry, wanted: Entry) -> list[tuple[str, Any]]:
    """Return the names of `wanted` with the values of `given`, in its form and shape."""
    values, targets = given.values, wanted.values
    if _shapes(values) != _shapes(targets):
        target = targets[-1]
        weight = values[0] if len(values) == 1 else _joined(*(v.to(target.dtype) for v in values))
        if _shapes([weight]) != _shapes([target]):
            raise ValueError(
                f"{key} must be {_shapes([target])[0]}, got {_shapes([weight])[0]}: build the "
                "module with the sizes of the weights"
            )
        values = (weight,) if len(targets) == 1 else split_weight(weight, _norm_dim(*targets))
    return list(zip(wanted.names, values, strict=True))


def _joined(g: Tensor, v: Tensor) -> Tensor:
    return torch._weight_norm(v, g, _norm_dim(g, v))


def _norm_dim(g: Tensor, v: Tensor) -> int:
    """Return the axis that a norm leaves; -1 if it is one norm for all of the weight."""
    if g.dim() == 0:
        return -1
    kept = (axis for axis, size in enumerate(g.shape) if size > 1)
    return next(kept, v.shape.index(1) if 1 in v.shape else 0)


def _is_normalized(g: Any, v: Any) -> bool:
    """Whether two entries have the shapes of a norm and of a direction."""
    if not isinstance(g, Tensor) or not isinstance(v, Tensor) or v.dim() < 2:
        return False
    shapes = [
        tuple(size if axis == kept else 1 for axis, size in enumerate(v.shape))
        for kept in range(v.dim())
    ]
    return g.dim() == 0 or tuple(g.shape) in shapes


def _plain_name(name: str) -> str:
    match = PARAMETRIZED.fullmatch(name) or LEGACY.fullmatch(name)
    return name if match is None else match["module"] + match["name"]


def _names_in_form(plain: str, form: str) -> tuple[str, str]:
    """Return the names of `g` and `v` of a weight of the given plain name."""
    if form == "legacy":
        return f"{plain}_g", f"{plain}_v"
    module, dot, name = plain.rpartition(".")
    path = f"{module}{dot}parametrizations.{name}.original"
    return f"{path}0", f"{path}1"


def _shapes(values: Iterable[Any]) -> list[tuple[int, ...] | None]:
    return [tuple(v.shape) if isinstance(v, Tensor) else None for v in values]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
