"""Parameters of a model by name: which ones a pattern selects, and freezing them.

A pattern is a name of a parameter or of a module, which stands for all that it holds, or a glob of
such names (`fnmatch`, in which `*` also matches dots): `head`, `stack.blocks.3`, `stack.*`,
`*.bias`. With weight norm, `conv.weight` selects both parts of that weight.
"""

import difflib
import fnmatch
import logging
from collections.abc import Iterable, Sequence

from torch import nn

from wavenet.modules.compat.weight_norm import PARAMETRIZED
from wavenet.utils.errors import ConfigError, printable

log = logging.getLogger("wavenet")


def select_parameters(patterns: Sequence[str], names: Iterable[str], key: str) -> set[str]:
    """Return the names of parameters that at least one pattern selects.

    Args:
        patterns: Of parameters or modules.
        names: All names of parameters, such as `stack.blocks.0.conv.weight`.
        key: Config key of the patterns, for errors.

    Raises:
        ConfigError: A pattern selects nothing.
    """
    aliases = {name: _aliases(name) for name in names}
    selected: set[str] = set()
    for pattern in patterns:
        matched = {
            name
            for name, found in aliases.items()
            if any(fnmatch.fnmatchcase(alias, pattern) for alias in found)
        }
        if not matched:
            known = dict.fromkeys(alias for found in aliases.values() for alias in found)
            raise ConfigError(f"{key}: {printable(pattern)!r} {_nothing_like(pattern, [*known])}")
        selected |= matched
    return selected


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Exclude the parameters that `patterns` select from training: they get no gradient.

    Args:
        model: Changed in place.
        patterns: `trainer.freeze`.

    Raises:
        ConfigError: A pattern selects nothing, or nothing is left to train.
    """
    frozen = select_parameters(patterns, dict(model.named_parameters()), "trainer.freeze")
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    if not trainable(model):
        raise ConfigError(
            f"trainer.freeze={printable(list(patterns))} freezes every parameter: leave out those "
            "to train"
        )


def log_trainable(model: nn.Module) -> None:
    """Log how many weights are trained, of all."""
    count = sum(parameter.numel() for parameter in trainable(model))
    total = sum(parameter.numel() for parameter in model.parameters())
    log.info("training %s of %s parameters; the others are frozen", f"{count:,}", f"{total:,}")


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def plain_name(name: str) -> str:
    """Return the name of a parameter as if there were no weight norm."""
    match = PARAMETRIZED.fullmatch(name)
    return name if match is None else match["module"] + match["name"]


def _aliases(name: str) -> list[str]:
    """Return the names that select a parameter: its own, and those of modules around it."""
    plain = plain_name(name)
    parts = plain.split(".")
    modules = [".".join(parts[:length]) for length in range(1, len(parts))]
    return list(dict.fromkeys([*modules, plain, name]))


def _nothing_like(pattern: str, known: Sequence[str]) -> str:
    """Return that a pattern selects nothing, with what was perhaps meant."""
    close = difflib.get_close_matches(pattern.strip("*."), known, n=3)
    if not close:
        close = [name for name in known if "." not in name]
        return f"matches no parameter and no module; the model has {', '.join(close)}"
    return f"matches no parameter and no module; did you mean {' or '.join(map(repr, close))}?"
