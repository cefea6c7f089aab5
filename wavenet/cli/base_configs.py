"""The configs that come from dataclasses, as a source of Hydra's next to the files of `conf/`.

`base` of each group, `model=small` and the other sizes, `audio/mel=NAME` for each preset;
`VERB_keys` are the keys of a command that are in no group.

They are made when a config asks for them. In Hydra's `ConfigStore` all of them would be, for each
command, and Hydra copies it whenever it composes.
"""

import functools
from collections.abc import Callable
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from wavenet.cli.commands import BASE, COMMANDS, GROUPS, command_config, group_config
from wavenet.presets import MEL_PRESETS, MODEL_SIZES
from wavenet.utils.dataclass_io import to_dict

SCHEME = "wavenet"


def _size_config(name: str) -> dict[str, Any]:
    return to_dict(MODEL_SIZES[name]) | {"local": group_config("model")["local"]}


CONFIGS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"{group}/{BASE}": functools.partial(group_config, group) for group in GROUPS},
    **{f"audio/mel/{name}": functools.partial(to_dict, mel) for name, mel in MEL_PRESETS.items()},
    **{f"model/{name}": functools.partial(_size_config, name) for name in MODEL_SIZES},
    **{f"{verb}_keys": functools.partial(command_config, verb) for verb in COMMANDS},
}


class BaseConfigs(ConfigSource):
    """Source of `CONFIGS`."""

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        if not self.is_config(config_path):
            raise ConfigLoadError(f"no config {config_path}")
        config = OmegaConf.create(CONFIGS[_name(config_path)]())
        return ConfigResult(
            config=config, path=self.full_path(), provider=self.provider, header={"package": None}
        )

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return any(name.startswith(f"{config_path.rstrip('/')}/") for name in CONFIGS)

    def is_config(self, config_path: str) -> bool:
        return _name(config_path) in CONFIGS

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        parents = f"{config_path}/" if config_path else ""
        below = [name.removeprefix(parents) for name in CONFIGS if name.startswith(parents)]
        configs = {name for name in below if "/" not in name}
        groups = {name.partition("/")[0] for name in below if "/" in name}
        wanted = {ObjectType.CONFIG: configs, ObjectType.GROUP: groups}
        return sorted(configs | groups if results_filter is None else wanted[results_filter])


class BaseConfigsPath(SearchPathPlugin):
    """Where Hydra looks for configs, after `conf/`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(SCHEME, f"{SCHEME}://")


def register_base_configs() -> None:
    """Make Hydra find `CONFIGS`."""
    for plugin in (BaseConfigs, BaseConfigsPath):
        Plugins.instance().register(plugin)


def _name(config_path: str) -> str:
    return config_path.removesuffix(".yaml")
