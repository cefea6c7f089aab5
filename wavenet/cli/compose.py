"""Hydra composes groups, recipes and overrides to one plain mapping, and explains its errors.

The base configs of the groups come from the dataclasses (`wavenet/cli/base_configs.py`), `conf/`
holds what differs from them.

Keys that are paths bypass Hydra's grammar: what follows the first `=` is taken literally, so that
spaces, `=`, `,`, `#`, brackets and any alphabet work; `null` alone means none.
"""

import dataclasses
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from wavenet.cli.commands import BASE
from wavenet.cli.words import FLAGS_WITH_VALUE, known_keys, nearest_keys
from wavenet.derive import derive
from wavenet.presets import MEL_PRESETS, mel_preset
from wavenet.training.options import RunConfig
from wavenet.utils.dataclass_io import from_dict, nearest, to_dict
from wavenet.utils.errors import ConfigError, printable

PATHS = (
    *("checkpoint", "config", "data.frames_dir", "data.processed_dir", "data.root"),
    *("data.split_list", "init"),
    *("input", "mean", "output", "prompt", "resume", "run_dir", "source", "speaker", "std"),
)
PLUGINS = ("joblib", "optuna", "submitit_local", "submitit_slurm")  # of Hydra, in the extra sweep
log = logging.getLogger("wavenet")
FOLDER = "folder"  # data.corpus of any recordings
CHANGEABLE = (
    *("trainer.", "evaluation.", "data.root", "data.frames_dir", "data.processed_dir"),
    "data.split_list",
    *("data.num_workers", "license", "data_license", "optim.lr_schedule_steps"),
)
FIXED = ("trainer.freeze",)  # the optimizer holds what is trained


class Composed(NamedTuple):
    """A composed config."""

    plain: dict[str, Any]  # all of it
    overridden: tuple[str, ...]  # keys given on the command line, in order


def quoted(text: str) -> str:
    """Return text as Hydra's grammar takes it literally."""
    literal = text.replace("${", r"\${")
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", literal)
    ending = re.search(r"\\*$", escaped)
    return f"'{escaped}{ending[0] if ending else ''}'"


@lru_cache(maxsize=1)
def register_configs(conf: Path) -> None:
    """Register the base configs and resolvers with Hydra, once in a process.

    `${recipes:PATH}` is next to `conf`; `${cpu_or_gpu:A,B}` is A where `trainer.device` is a CPU.
    """
    from omegaconf import OmegaConf

    from wavenet.cli.base_configs import register_base_configs

    register_base_configs()

    def recipes(name: str) -> str:
        return str(conf.parent / "recipes" / name)

    def cpu_or_gpu(on_cpu: Any, on_gpu: Any, _root_: Any) -> Any:
        from wavenet.utils.device import find_device

        device = find_device(_root_.trainer.device, "trainer.device")
        return on_cpu if device.type == "cpu" else on_gpu

    OmegaConf.clear_resolver("oc.env")
    OmegaConf.register_new_resolver("cpu_or_gpu", cpu_or_gpu, replace=True)
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


def mel_by_name(argument: str) -> str:
    """Return `audio.mel=NAME` as Hydra's choice of a group, `audio/mel=NAME`; others unchanged.

    Raises:
        ConfigError: There is no such preset.
    """
    key, _, value = argument.partition("=")
    if key not in ("audio.mel", "audio/mel") or not re.fullmatch(r"\w[\w,]*", value):
        return argument
    if value == "null":
        return "audio.mel=null"
    for name in value.split(","):
        mel_preset(name)
    return f"audio/mel={value}"


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


def run_hydra(
    conf: Path,
    verb: str,
    job: Callable[[Any], object],
    words: Sequence[str],
    paths: Mapping[str, str] | None = None,
) -> None:
    """Call Hydra's main function, which knows its flags and sweeps; it composes twice.

    Args:
        conf: Folder of the configs.
        verb: Name of the command.
        job: Called with the composed config.
        words: The command line without paths.
        paths: Those that `--cfg` shows.
    """
    import hydra

    sys.argv[1:] = words
    if {"--cfg", "-c"} & {*words}:
        shown = (paths or {}).items()
        given = [f"{key}={value if value == 'null' else quoted(value)}" for key, value in shown]
        sys.argv[1:] = _flags_last([*given, *words])
        if "job" in words and "--resolve" not in words:
            sys.argv.append("--resolve")  # values, not ${...}
        log.info("a null key may follow from other keys: --help all says which")
    hydra.main(config_path=str(conf), config_name=verb, version_base="1.3")(job)()


def _flags_last(words: Iterable[str]) -> list[str]:
    """Return a command line with its overrides in one piece, as Hydra's parser needs them."""
    left = list(words)
    flags: list[str] = []
    overrides: list[str] = []
    while left:
        word = left.pop(0)
        if word in FLAGS_WITH_VALUE:
            flags += [word, *left[:1]]
            del left[:1]
        else:
            (flags if word.startswith("-") else overrides).append(word)
    return [*overrides, *flags]


def with_overrides(config: RunConfig, composed: Composed) -> RunConfig:
    """Return the config of a run with the overrides of the command line that resumes it.

    Raises:
        ConfigError: An override changes a key that is fixed for a run.
    """
    plain = to_dict(config)
    for key in composed.overridden:
        if key in ("resume", "debug"):
            continue
        if not key.startswith(CHANGEABLE) or key.startswith(FIXED):
            raise ConfigError(
                f"{key}: a resumed run keeps its own; only trainer.* (not freeze), evaluation.*, "
                "optim.lr_schedule_steps and the folders of data can change. Leave it out, or "
                "start another run"
            )
        *parents, leaf = key.split(".")
        target: dict[str, Any] = plain
        source: dict[str, Any] = composed.plain
        for part in parents:
            target, source = target[part], source[part]
        target[leaf] = source[leaf]
    moved = {"data.root", "data.frames_dir", "data.split_list"} & {*composed.overridden}
    if moved and "data.processed_dir" not in composed.overridden:
        plain["data"]["processed_dir"] = None  # that of the new recordings
    return from_dict(RunConfig, plain)


def without_foreign_license(config: RunConfig, composed: Composed) -> RunConfig:
    """Return the config without the recipe's data license if the command line names other data.

    The recordings of a published corpus are recognized by their layout, a folder's are not.
    """
    given = {"data.root", "data.processed_dir"} & {*composed.overridden}
    if config.data.corpus == FOLDER and given and "data_license" not in composed.overridden:
        return dataclasses.replace(config, data_license=None)
    return config


def refuse_beside_checkpoint(
    checkpoint: str | None, composed: Composed, keys: Sequence[str]
) -> None:
    """Raise a `ConfigError` if a group or key that describes another model is given too."""
    given = [key for key in composed.overridden if key.split(".")[0] in keys]
    if checkpoint is not None and given:
        raise ConfigError(
            f"{given[0]} is given, but checkpoint={printable(checkpoint)} has its own: leave one "
            "of the two out"
        )


def explain(error: Exception, verb: str) -> str:
    """Return an error of Hydra in a sentence, with the nearest key or choice."""
    from hydra.errors import MissingConfigException, OverrideParseException

    own: BaseException | None = error
    while own is not None and not isinstance(own, ConfigError):  # OmegaConf wraps it
        own = own.__cause__ or own.__context__
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
        known = [name for name in error.options if name != BASE]
        return f"{group}={printable(choice)}: no such choice{nearest(choice, known)}"
    if isinstance(error, OverrideParseException) and "=" not in str(error.override):
        return f"{printable(error.override)!r} has no key: write KEY=VALUE (--help all lists keys)"
    if isinstance(error, OverrideParseException):
        return f"{printable(error.override)!r} is not KEY=VALUE: {printable(text, 300)}"
    match = re.match(r"Ambiguous value for argument '([^=]+)=(.*)'\n", text)
    if match:
        several = "; -m starts a training with each" if verb == "train" else ""
        return f"{match[1]} takes one value, got {match[2]}; a list is [{match[2]}]{several}"
    match = re.search(r"Could not override '([^']+)'", text)
    if match:
        return _without_place(match[1], known_keys(verb))
    return printable(text.replace("\n", " "), limit=500)


def _without_place(key: str, known: Sequence[str]) -> str:
    """Return why Hydra cannot override a key: it is unknown, or its mapping has no place for it."""
    name = re.sub(r"(\.\d+)+$", "", key)  # without indices of a list
    if name not in known:
        return f"unknown key {key!r}{nearest_keys(key, known)}"
    parent, _, leaf = name.rpartition(".")
    if parent == "audio.mel":
        presets = ", ".join(sorted(MEL_PRESETS))
        return f"{key}: audio.mel is null; choose a preset with audio.mel=NAME, one of {presets}"
    required = {"audio.f0": ["hop_length"], "audio.score": ["hop_length"]}
    required["audio.frames"] = ["channels", "hop_length"]
    names = dict.fromkeys([*required.get(parent, []), leaf])
    together = ",".join(f"{name}:VALUE" for name in names)
    return (
        f"{key}: {parent} is null or a mapping without it; give its keys together, such as "
        f"{parent}={{{together}}}"
    )
