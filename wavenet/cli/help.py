"""What `--help` shows: examples, the choices of each group, and every key with its meaning.

All of it is in the configs, as comments beside what they explain; here it is put together.
"""

import re
from pathlib import Path


def help_text(conf: Path, verb: str) -> str:
    """Return the help of a command.

    Args:
        conf: The folder of configs.
        verb: Name of its primary config.
    """
    text = (conf / f"{verb}.yaml").read_text(encoding="utf-8")
    head, _, own = text.partition("\n\n")
    intro, _, defaults = head.partition("defaults:\n")
    groups = re.findall(r"^  - (\w+): (\w+)$", defaults, re.MULTILINE)
    parts = [uncomment(intro)]
    for group, choice in groups:
        parts += [_choices(conf / group, choice), _keys(conf / group, choice)]
    return "\n\n".join(part for part in [*parts, own.rstrip()] if part)


def uncomment(text: str) -> str:
    """Return the leading comment of a config, without its marks and Hydra's directives."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line[2:])
    return "\n".join(lines)


def _choices(folder: Path, chosen: str) -> str:
    """Return the choices of a group, the chosen one marked."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if len(names) == 1:
        return ""
    lines, width = [f"{folder.name}=CHOICE"], max(map(len, names))
    for name in names:
        about = uncomment((folder / f"{name}.yaml").read_text(encoding="utf-8")).partition("\n")[0]
        lines.append(f"  {'*' if name == chosen else ' '} {name:{width}} {about}".rstrip())
    return "\n".join(lines)


def _keys(folder: Path, chosen: str) -> str:
    """Return a group's keys with their comments, from the file that has them all."""
    if folder.name in ("recipe", "launcher", "sweeper"):
        return ""  # they only say others' keys anew
    path = folder / "base.yaml"
    if not path.exists():
        path = folder / f"{chosen}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = [f"  {line}" for line in lines if not line.startswith("# Every key")]
    return "\n".join([f"{folder.name}:", *keys])
