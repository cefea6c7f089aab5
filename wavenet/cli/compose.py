"""Hydra's part: groups, recipes and overrides become one plain mapping.

Keys that are paths never pass Hydra's grammar: what follows the first `=` is taken as it is, so
that spaces, `=`, `,`, `#`, brackets and any alphabet just work; `null` alone means none.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavenet.config import WaveNetConfig
from wavenet.mel_presets import MEL_PRESETS
from wavenet.utils.dataclass_io import from_dict, nearest, to_dict
from wavenet.utils.errors import ConfigError, printable

PATHS = (
    "checkpoint",
    "data.processed_dir",
    "data.root",
    "input",
    "output",
    "prompt",
    "resume",
    "run_dir",
    "speaker",
)
FLAGS = (  # Hydra's, and --json
    *("--help", "--version", "--json", "--multirun", "--run", "--cfg", "--resolve", "--package"),
    *("--info", "--hydra-help", "--config-dir", "--config-name", "--config-path"),
    *("--shell-completion", "--experimental-rerun"),
)


@dataclass(frozen=True)
class Composed:
    """A composed config.

    Attributes:
        plain: All of it, as plain data.
        said: The keys that the command line named, in order.
    """

    plain: dict[str, Any]
    said: tuple[str, ...]


def quoted(text: str) -> str:
    """Return text as Hydra's grammar takes it literally."""
    literal = text.replace("${", r"\${")
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", literal)
    ending = re.search(r"\\*$", escaped)
    return f"'{escaped}{ending[0] if ending else ''}'"


def register_resolvers(conf: Path) -> None:
    """Teach configs `${recipes:PATH}`, a path in `recipes/`, and `${mel:NAME}`, a mel convention.

    A convention is all its keys; `${audio.mel.bins}` and the like see into it.

    Args:
        conf: The folder of configs.
    """
    from omegaconf import DictConfig, OmegaConf

    def recipes(name: str) -> str:
        return str(conf.parent / "recipes" / name)

    def mel(name: str) -> DictConfig:
        if name not in MEL_PRESETS:
            known = nearest(name, MEL_PRESETS)
            raise ConfigError(f"no mel convention {printable(name)!r}{known}")
        return OmegaConf.create(to_dict(MEL_PRESETS[name]))

    OmegaConf.clear_resolver("oc.env")
    OmegaConf.register_new_resolver("recipes", recipes, replace=True)
    OmegaConf.register_new_resolver("mel", mel, replace=True)


def split_paths(arguments: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the path overrides, taken literally, and all other arguments."""
    paths: dict[str, str] = {}
    rest = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in PATHS:
            if not value:
                raise ConfigError(f"{key}= names no path: say {key}=PATH, or leave it out")
            paths[key] = value
        else:
            rest.append(argument)
    return paths, rest


def refuse_foreign_words(arguments: Iterable[str]) -> None:
    """Refuse what Hydra would take otherwise than it is meant.

    Raises:
        ConfigError: A word adds or removes a key, or says none.
    """
    for argument in arguments:
        if argument.startswith(("+", "~")):
            raise ConfigError(
                f"{printable(argument)!r}: configs are closed, no key is added or removed; "
                "say KEY=VALUE for a known key (--help lists them)"
            )
        if argument.startswith("--") and "." in argument.partition("=")[0]:
            raise ConfigError(f"{printable(argument)!r}: write it without the dashes")
        if "/" in argument and "=" not in argument:
            raise ConfigError(f"{printable(argument)!r} says no key: write KEY=PATH")
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag not in FLAGS:
            raise ConfigError(f"unknown {printable(flag)!r}{nearest(flag, FLAGS)}")


def keys_said(arguments: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of ours that a command line names, in order."""
    pairs = (argument.partition("=") for argument in arguments)
    return tuple(key for key, equals, _ in pairs if equals and not key.startswith(("-", "hydra.")))


def plain_with(config: Any, paths: Mapping[str, str]) -> dict[str, Any]:
    """Return Hydra's config as plain data, with the paths put in.

    Raises:
        ConfigError: There is no such path in it, or a key is still to be said.
    """
    from omegaconf import OmegaConf, open_dict

    for key, value in paths.items():
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is None or leaf not in list(node):  # `in` overlooks what is still to be said
            raise ConfigError(f"unknown key {key!r}: this command has no such path")
        with open_dict(node):
            node[leaf] = None if value == "null" else value.replace("${", r"\${")
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} is not said: add {missing[0]}=... to the command line")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def compose_model(name: str) -> WaveNetConfig:
    """Return the config of a model of conf/model, inside a running command."""
    from hydra import compose
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(compose(f"model/{name}"), resolve=True)
    return from_dict(WaveNetConfig, plain["model"], f"model={name}")
