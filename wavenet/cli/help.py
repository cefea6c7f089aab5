"""What `--help` shows: examples, the choices of each group, and every key with its meaning.

Keys come from the dataclasses; examples and choices from the first lines of the files in `conf/`.
"""

import itertools
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from wavenet.cli.commands import COMMANDS, GROUPS
from wavenet.presets import MEL_PRESETS, MODEL_SIZES
from wavenet.utils.dataclass_io import describe_range, key_fields, nested_dataclass, plain_default


def help_text(conf: Path, verb: str) -> str:
    """Return the help of a command, whose config is `conf/VERB.yaml`."""
    parts = [leading_comment(conf / f"{verb}.yaml")]
    for group, choice in _chosen(conf / f"{verb}.yaml").items():
        parts.append(_choices(conf, group, choice))
        if group in GROUPS:
            parts.append("\n".join([f"{group}:", *_keys(GROUPS[group], "  ")]))
    parts.append("\n".join(_keys(COMMANDS[verb].options, "", without=GROUPS)))
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


def _choices(conf: Path, group: str, chosen: str | None) -> str:
    """Return the choices of a group, the default marked."""
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
    if len(about) <= 1:
        return ""
    width = max(map(len, about))
    lines = [f"{group.replace('/', '.')}=CHOICE"]
    lines += [
        f"  {'*' if name == chosen else ' '} {name:{width}} {text}".rstrip()
        for name, text in sorted(about.items())
    ]
    return "\n".join(lines)


def _keys(cls: Any, indent: str, without: Container[str] = ()) -> Iterator[str]:
    """Yield a line per key: default, help and range; keys of a mapping are indented below it."""
    for field in key_fields(cls):
        if field.name in without:
            continue
        inner = nested_dataclass(cls, field)
        optional = inner is not None and field.default is None and not field.metadata["derived"]
        text, allowed = field.metadata["help"], describe_range(cls, field)
        text += f" ({allowed})" if allowed else ""
        derived = field.metadata["derived"] and inner is None
        text += "; null: follows from other keys" * derived
        value = "" if inner is not None and not optional else f" {_yaml(plain_default(field))}"
        yield f"{indent}{field.name}:{value} # {text}"
        if inner is not None:
            yield from _keys(inner, indent + ("  # " if optional else "  "))


def _yaml(value: Any) -> str:
    """Return a default as YAML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
