"""Hydra's part: groups, recipes and overrides become one plain mapping.

Keys that are paths never pass Hydra's grammar: what follows the first `=` is taken as it is, so
that spaces, `=`, `,`, `#`, brackets and any alphabet just work; `null` alone means none.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavenet.conventions import CONVENTIONS
from wavenet.errors import ConfigError, printable
from wavenet.plain import nearest, to_dict

PATHS = (
    "checkpoint",
    "data.prepared",
    "data.root",
    "input",
    "output",
    "prompt",
    "resume",
    "run_dir",
    "speaker",
)
FLAGS = {"--json": "json=true"}  # what is commonly said with dashes


@dataclass(frozen=True)
class Composed:
    """A composed config.

    Attributes:
        plain: All of it, as plain data.
        said: The keys that the command line named, in order.
    """

    plain: dict[str, Any]
    said: tuple[str, ...]


def compose_with(conf: Path, name: str, task: Callable[[Composed], int]) -> int:
    """Compose `conf/name.yaml` with the command line, call `task`, and return its exit code.

    Args:
        conf: The folder of configs.
        name: The primary config.
        task: Called with the composed config; not called for `--help` and its like.

    Raises:
        ConfigError: The command line does not fit the configs.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    given = [FLAGS.get(word, word) for word in sys.argv[1:]]
    paths, rest = split_paths(given)
    _refuse_foreign_words(rest)
    codes = [0]
    errors: list[Exception] = []

    def job(config: DictConfig) -> None:
        sys.argv[1:] = given  # for a library that starts this command again
        try:
            codes.append(task(Composed(_plain(config, paths), _keys(given))))
        except Exception as error:  # noqa: BLE001 told outside, without Hydra's words around it
            errors.append(error)

    register_resolvers(conf)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors on; they are told below
    sys.argv[1:] = rest
    try:
        hydra.main(config_path=str(conf), config_name=name, version_base="1.3")(job)()
        if errors:
            raise errors[0]
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, conf, name)) from error
    finally:
        sys.argv[1:] = given
    return max(codes)


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
        if name not in CONVENTIONS:
            known = nearest(name, CONVENTIONS)
            raise ConfigError(f"no mel convention {printable(name)!r}{known}")
        return OmegaConf.create(to_dict(CONVENTIONS[name]))

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


def _refuse_foreign_words(arguments: Iterable[str]) -> None:
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


def _keys(arguments: Iterable[str]) -> tuple[str, ...]:
    pairs = (argument.partition("=") for argument in arguments)
    return tuple(key for key, equals, _ in pairs if equals and not key.startswith(("-", "hydra.")))


def _plain(config: Any, paths: Mapping[str, str]) -> dict[str, Any]:
    """Return the config as plain data, with the paths put in."""
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


def _explain(error: Exception, conf: Path, name: str) -> str:
    """Return in a sentence what Hydra found wrong, with the nearest key or choice."""
    from hydra.errors import MissingConfigException

    own = _own(error)
    if own is not None:
        return str(own)
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={printable(choice)}: no such choice{nearest(choice, error.options)}"
    match = re.search(r"Could not override '([^']+)'", text)
    if match:
        return f"unknown key {match[1]!r}{nearest(match[1], known_keys(conf, name))}"
    return printable(text.replace("\n", " "), limit=500)


def _own(error: BaseException) -> ConfigError | None:
    """Return the error of ours that a resolver raised and OmegaConf wrapped, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__ or cause.__context__
    return cause


def known_keys(conf: Path, name: str) -> list[str]:
    """Return the dotted keys and the groups of a command's config."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf), version_base="1.3"):
        plain = OmegaConf.to_container(compose(name), resolve=False)

    def dotted(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return [prefix]
        inner = [dotted(value, f"{prefix}.{key}" if prefix else key) for key, value in node.items()]
        return [prefix] * bool(prefix) + [key for keys in inner for key in keys]

    return [*dotted(plain, ""), "recipe"]
