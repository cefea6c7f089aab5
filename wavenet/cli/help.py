"""What `--help` shows: examples and keys with their meaning; `--help all`: every key.

Keys come from the dataclasses; examples and choices from the first lines of the files in `conf/`.
"""

import itertools
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any

from wavenet.cli.commands import COMMANDS, GROUPS, command_name
from wavenet.cli.words import known_keys
from wavenet.presets import MEL_PRESETS, MODEL_SIZES
from wavenet.utils.dataclass_io import (
    describe_range,
    key_fields,
    nearest,
    nested_dataclass,
    plain_default,
)
from wavenet.utils.errors import ConfigError, printable

HELP_FLAGS = ("--help", "-h")
ALL = "all"  # topic of help that lists every key


def help_text(conf: Path, verb: str, topic: str | None = None) -> str:
    """Return the help of a command, whose config is `conf/VERB.yaml`.

    Args:
        conf: Folder of the configs.
        verb: Name of the command.
        topic: `all` for every key, or a group for its own; a key or a flag for a screenful.

    Raises:
        ConfigError: There is no such topic.
    """
    groups: dict[str, list[str]] = {}  # with the choices of audio/mel in audio
    for group, choice in _chosen(conf / f"{verb}.yaml").items():
        parts = groups.setdefault(group.partition("/")[0], [])
        parts.append(_choices(conf, group, choice))
        if group in GROUPS:
            parts.append("\n".join([f"{group}:", *_keys(GROUPS[group], "  ")]))
    if topic in groups:
        return _joined(groups[topic])
    keys = {key.partition(".")[0] for key in known_keys(verb)}
    if topic and not topic.startswith("-") and topic not in {ALL, *keys}:
        near = nearest(topic, {ALL, *groups, *keys})
        raise ConfigError(f"no help on {printable(topic)!r}, which is no group or key{near}")
    head, most_used = leading_comment(conf / f"{verb}.yaml"), COMMANDS[verb].most_used
    if most_used and topic != ALL:
        command, names = command_name(verb), ", ".join(groups)
        return _joined(
            [
                head,
                "\n".join(["The keys that are set most:", *_lines(conf, verb, most_used)]),
                f"{command} --help {ALL} lists every key, --help GROUP those of a group:\n{names}.",
            ]
        )
    own = "\n".join(_keys(COMMANDS[verb].options, "", without=GROUPS))
    return _joined([head, *itertools.chain(*groups.values()), own])


def help_topic(words: Sequence[str]) -> str | None:
    """Return what `--help` of a command line is about: the first part of the key after it."""
    flag = next(place for place, word in enumerate(words) if word in HELP_FLAGS)
    after = words[flag + 1 : flag + 2]
    return re.split(r"[./=]", after[0])[0] if after else None


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part)


def leading_comment(path: Path) -> str:
    """Return the comment at the start of a config, without its marks and Hydra's directives."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "\n".join(line[2:] for line in comment if not line.startswith("# @package"))


def _chosen(path: Path) -> dict[str, str | None]:
    """Return the groups of a primary config with their default choices."""
    from omegaconf import OmegaConf

    entries: Any = OmegaConf.to_container(OmegaConf.load(path))
    mappings = (entry for entry in entries["defaults"] if isinstance(entry, dict))
    pairs = (pair for mapping in mappings for pair in mapping.items())
    return {group: choice for group, choice in pairs if not group.startswith("override ")}


def _lines(conf: Path, verb: str, keys: Iterable[str]) -> Iterator[str]:
    """Yield a line for each of some keys and groups, as `_keys` does."""
    groups = _chosen(conf / f"{verb}.yaml")
    for key in keys:
        group, (*parents, leaf) = key.replace(".", "/"), key.split(".")
        if group in groups:
            choices = ", ".join(sorted(_about(conf, group)))
            yield f"  {key}: {_yaml(groups[group])} # {choices}"
            continue
        cls: Any = COMMANDS[verb].options
        for parent in parents:
            cls = nested_dataclass(cls, _field(cls, parent))
        yield f"  {key}:{_about_key(cls, _field(cls, leaf))}"


def _field(cls: Any, name: str) -> Field[Any]:
    return next(field for field in key_fields(cls) if field.name == name)


def _choices(conf: Path, group: str, chosen: str | None) -> str:
    """Return the choices of a group, the default marked."""
    about = _about(conf, group)
    if len(about) <= 1:
        return ""
    width = max(map(len, about))
    lines = [f"{group.replace('/', '.')}=CHOICE"]
    lines += [
        f"  {'*' if name == chosen else ' '} {name:{width}} {text}".rstrip()
        for name, text in sorted(about.items())
    ]
    return "\n".join(lines)


def _about(conf: Path, group: str) -> dict[str, str]:
    """Return what each choice of a group is."""
    about = {
        path.stem: leading_comment(path).partition("\n")[0]
        for path in (conf / group).glob("*.yaml")
    }
    if group == "audio/mel":
        about |= {
            name: f"{mel.sample_rate} Hz, {mel.n_mels} bands, hop length {mel.hop_length}"
            for name, mel in MEL_PRESETS.items()
        }
    if group == "model":
        about |= {
            name: f"{len(size.dilations)} blocks of kernel {size.kernel_size}, "
            f"{size.residual_channels} residual channels"
            for name, size in MODEL_SIZES.items()
        }
    return about


def _keys(cls: Any, indent: str, without: Container[str] = ()) -> Iterator[str]:
    """Yield a line per key: default, help and range; keys of a mapping are indented below it."""
    for field in key_fields(cls):
        if field.name in without:
            continue
        yield f"{indent}{field.name}:{_about_key(cls, field)}"
        inner = nested_dataclass(cls, field)
        if inner is not None:
            yield from _keys(inner, indent + ("  # " if _is_optional(cls, field) else "  "))


def _about_key(cls: Any, field: Field[Any]) -> str:
    """Return the default, help and range of a key."""
    inner = nested_dataclass(cls, field)
    text, allowed = field.metadata["help"], describe_range(cls, field)
    text += f" ({allowed})" if allowed else ""
    derived = field.metadata["derived"] and inner is None
    text += "; null: follows from other keys" * derived
    has_value = inner is None or _is_optional(cls, field)
    return f"{f' {_yaml(plain_default(field))}' if has_value else ''} # {text}"


def _is_optional(cls: Any, field: Field[Any]) -> bool:
    """Return whether a mapping is absent by default."""
    is_mapping = nested_dataclass(cls, field) is not None
    return is_mapping and field.default is None and not field.metadata["derived"]


def _yaml(value: Any) -> str:
    """Return a default as YAML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
