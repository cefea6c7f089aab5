"""Hydra composes groups, recipes and overrides to one plain mapping.

The base configs of the groups come from the dataclasses, `conf/` holds what differs from them.

Keys that are paths bypass Hydra's grammar: what follows the first `=` is taken literally, so that
spaces, `=`, `,`, `#`, brackets and any alphabet work; `null` alone means none.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavenet.cli.commands import COMMANDS, GROUPS, command_config, group_config
from wavenet.derive import derive
from wavenet.presets import MEL_PRESETS, MODEL_SIZES
from wavenet.utils.dataclass_io import nearest, to_dict
from wavenet.utils.errors import ConfigError, printable
from wavenet.utils.renamed import renamed_word

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
        overridden: Keys given on the command line, in order.
    """

    plain: dict[str, Any]
    overridden: tuple[str, ...]


def quoted(text: str) -> str:
    """Return text as Hydra's grammar takes it literally."""
    literal = text.replace("${", r"\${")
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", literal)
    ending = re.search(r"\\*$", escaped)
    return f"'{escaped}{ending[0] if ending else ''}'"


def register_configs(conf: Path) -> None:
    """Register the base configs with Hydra, and the resolver `${recipes:PATH}`.

    Groups: `base` of each, `model=small` and the other sizes, `audio/mel=NAME` for each preset.
    `VERB_keys` are the keys of a command that are in no group.

    Args:
        conf: The folder of configs.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    store = ConfigStore.instance()
    for group in GROUPS:
        store.store(group=group, name="base", node=group_config(group))
    for name, mel in MEL_PRESETS.items():
        store.store(group="audio/mel", name=name, node=to_dict(mel))
    for name, model in MODEL_SIZES.items():
        node = to_dict(model) | {"local": group_config("model")["local"]}
        store.store(group="model", name=name, node=node)
    for verb in COMMANDS:
        store.store(name=f"{verb}_keys", node=command_config(verb))

    def recipes(name: str) -> str:
        return str(conf.parent / "recipes" / name)

    OmegaConf.clear_resolver("oc.env")
    OmegaConf.register_new_resolver("recipes", recipes, replace=True)


def split_paths(arguments: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the path overrides, taken literally, and all other arguments."""
    paths: dict[str, str] = {}
    rest = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in PATHS:
            if not value:
                raise ConfigError(f"{key}= names no path: write {key}=PATH, or leave it out")
            paths[key] = value
        else:
            rest.append(argument)
    return paths, rest


def check_words(verb: str, arguments: Iterable[str]) -> None:
    """Refuse words that were renamed, and words that Hydra would misunderstand.

    Raises:
        ConfigError: A word has an old name, adds or removes a key, or names none.
    """
    for argument in arguments:
        new = renamed_word(verb, argument)
        if new is not None:
            raise ConfigError(f"{printable(argument)!r}: renamed to {new}")
        if argument.startswith(("+", "~")):
            raise ConfigError(
                f"{printable(argument)!r}: configs are closed, no key can be added or removed; "
                "use KEY=VALUE with a known key (--help lists them)"
            )
        if argument.startswith("--") and "." in argument.partition("=")[0]:
            raise ConfigError(f"{printable(argument)!r}: write it without the dashes")
        if "/" in argument and "=" not in argument:
            raise ConfigError(f"{printable(argument)!r} has no key: write KEY=PATH")
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag not in FLAGS:
            raise ConfigError(f"unknown {printable(flag)!r}{nearest(flag, FLAGS)}")


def mel_by_name(argument: str) -> str:
    """Return `audio.mel=NAME` as Hydra's choice of a group, `audio/mel=NAME`; others unchanged.

    Raises:
        ConfigError: There is no such preset.
    """
    key, _, value = argument.partition("=")
    names = value.split(",")
    if key not in ("audio.mel", "audio/mel") or not re.fullmatch(r"\w[\w,]*", value):
        return argument
    if value == "null":
        return "audio.mel=null"
    for name in names:
        if name not in MEL_PRESETS:
            raise ConfigError(f"no mel preset {printable(name)!r}{nearest(name, MEL_PRESETS)}")
    return f"audio/mel={value}"


def overridden_keys(arguments: Iterable[str]) -> tuple[str, ...]:
    """Return the keys that a command line overrides, in order, without Hydra's own."""
    pairs = (argument.partition("=") for argument in arguments)
    return tuple(key for key, equals, _ in pairs if equals and not key.startswith(("-", "hydra.")))


def to_plain(config: Any, paths: Mapping[str, str]) -> dict[str, Any]:
    """Return Hydra's config as plain data, with the paths put in and derived keys filled in.

    Raises:
        ConfigError: The command has no such path, or a required key is missing.
    """
    from omegaconf import OmegaConf, open_dict

    for key, value in paths.items():
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is None or leaf not in list(node):  # `in` is false for a required key
            raise ConfigError(f"unknown key {key!r}: this command has no such path")
        with open_dict(node):
            node[leaf] = None if value == "null" else value.replace("${", r"\${")
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"missing required key {missing[0]}: add {missing[0]}=...")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return derive({str(key): value for key, value in plain.items()})
