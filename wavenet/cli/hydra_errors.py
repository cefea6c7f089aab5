"""Hydra's errors in a sentence, with the nearest key or choice."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any

from wavenet.cli.commands import COMMANDS
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import ConfigError, printable
from wavenet.utils.fields import nested_dataclass

PLUGINS = ("joblib", "optuna", "submitit_local", "submitit_slurm")  # of Hydra, in the extra sweep


def explain(error: Exception, verb: str) -> str:
    """Return an error of Hydra in a sentence, with the nearest key or choice."""
    from hydra.errors import MissingConfigException, OverrideParseException

    own = _config_error(error)
    if own is not None:
        return str(own)
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if group in ("hydra/launcher", "hydra/sweeper") and choice in PLUGINS:
            return (
                f"{group}={choice} is a plugin that is not installed: it comes with "
                "pip install 'torch-wavenet[sweep]'"
            )
        return f"{group}={printable(choice)}: no such choice{nearest(choice, error.options)}"
    if isinstance(error, OverrideParseException) and "=" not in str(error.override):
        return f"{printable(error.override)!r} has no key: write KEY=VALUE (--help lists keys)"
    if isinstance(error, OverrideParseException):
        return f"{printable(error.override)!r} is not KEY=VALUE: {printable(text, 300)}"
    match = re.search(r"Could not override '([^']+)'", text)
    if match:
        return f"unknown key {match[1]!r}{nearest(match[1], known_keys(verb))}"
    return printable(text.replace("\n", " "), limit=500)


def _config_error(error: BaseException) -> ConfigError | None:
    """Return the `ConfigError` that OmegaConf wrapped, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__ or cause.__context__
    return cause


def known_keys(verb: str) -> list[str]:
    """Return the dotted keys and the groups of a command."""

    def dotted(cls: type, prefix: str = "") -> Iterator[str]:
        for field in dataclasses.fields(typing.cast(Any, cls)):
            yield prefix + field.name
            inner = nested_dataclass(cls, field)
            if inner is not None:
                yield from dotted(inner, f"{prefix}{field.name}.")

    return [*dotted(COMMANDS[verb].options), "recipe", "launcher", "sweeper"]
