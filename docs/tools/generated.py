"""Pages of the documentation that follow from the code, as Markdown.

- reference/config.md: every key of the groups, from the dataclasses
- reference/commands.md: examples, keys and `--help all` of every command
- reference/python/NAME.md: public names, for mkdocstrings to fill in
- reference/examples.md: the programs of `examples/`
- changelog.md, contributing.md, ...: files of the repository
"""

import ast
import dataclasses
import importlib
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import wavenet
from wavenet.cli.commands import COMMANDS, GROUPS, command_name
from wavenet.cli.help import help_text, leading_comment
from wavenet.utils.dataclass_io import describe_range, key_fields, nested_dataclass, plain_default

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
OF_REPOSITORY = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
}
GROUP_TEXTS = {
    "audio": "What the samples and features mean; part of the model directory.",
    "model": "Shape of the weights; part of the model directory.",
    "data": "Recordings and their preparation.",
    "optim": "Optimizer, learning rate and EMA.",
    "trainer": "The training loop: batches, precision, checkpoints, validation.",
    "evaluation": "What is measured and generated after training and by `wavenet-evaluate`.",
}
CONFIG_TEXT = """\
Any key is set with `GROUP.KEY=VALUE` on the command line, see
[configuration](../guides/configuration.md). Keys of one command alone are listed with the
[commands](commands.md). A default *derived* follows from other keys."""
COMMANDS_TEXT = """\
Each takes `KEY=VALUE`, `--KEY VALUE` or `--KEY=VALUE`. `--help all` lists all keys, `--cfg job`
shows the config that the command line gives, `--version` the version. [Exit codes](exit_codes.md)
are the same for all. `pip install 'torch-wavenet[EXTRA]'` installs what a command needs."""
HELP = """\
<details markdown="1">
<summary><code>{name} --help all</code></summary>

```text
{text}
```

</details>"""
PYTHON = {  # page: package and text
    "wavenet": ("wavenet", "Models, checkpoints, samplers and their configs."),
    "modules": ("wavenet.modules", "Blocks. They need torch and nothing else."),
    "compat": ("wavenet.modules.compat", "Blocks and weights of other projects."),
    "distributions": ("wavenet.distributions", "What a sample is drawn from."),
    "sampling": ("wavenet.sampling", "Generation, sample by sample."),
    "features": ("wavenet.features", "From a waveform to frames, and back."),
    "interop": ("wavenet.interop", "Checkpoints of other projects."),
    "errors": ("wavenet.utils.errors", "Exceptions, one exit code each."),
}
FEATURES = [
    *("mel.LogMel", "mel.write_mel", "mel.read_mel", "mel_consistency.MelConsistency"),
    *("f0.f0_features", "score.read_notes", "score.piano_roll", "filters.SignalFilter"),
]


def pages() -> dict[str, str]:
    """Return the generated pages: place below docs/ and Markdown."""
    found = {
        "reference/config.md": config_page(),
        "reference/commands.md": commands_page(),
        "reference/examples.md": examples_page(),
    }
    found |= {page: of_repository(name) for name, page in OF_REPOSITORY.items()}
    found |= {f"reference/python/{page}.md": python_page(page) for page in PYTHON}
    return found


def of_repository(name: str) -> str:
    """Return a file of the repository, its links into docs/ relative to it."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for file, page in {**OF_REPOSITORY, "README.md": "index.md"}.items():
        text = text.replace(f"]({file}", f"]({page}")
    return text


def config_page() -> str:
    """Return the table of every key of every group."""
    parts = ["# Config keys", CONFIG_TEXT]
    for group, cls in GROUPS.items():
        parts += [f"## {group}", GROUP_TEXTS[group], key_table(cls, f"{group}.")]
    return "\n\n".join(parts) + "\n"


def key_table(cls: Any, prefix: str = "", without: Container[str] = ()) -> str:
    """Return a table of the keys of a dataclass."""
    rows = ["| key | default | values | |", "| --- | --- | --- | --- |"]
    return "\n".join([*rows, *key_rows(cls, prefix, without)])


def key_rows(cls: Any, prefix: str, without: Container[str] = ()) -> Iterator[str]:
    """Yield a row per key, keys of a mapping below it."""
    for field in key_fields(cls):
        if field.name in without:
            continue
        inner, key = nested_dataclass(cls, field), prefix + field.name
        default = code(plain_default(field))
        if field.metadata["derived"] and inner is None:
            default = "*derived*"
        elif inner is not None:
            default = "none" if field.default is None else ""
        cells = [f"`{key}`", default, describe_range(cls, field), field.metadata["help"]]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        if inner is not None:
            yield from key_rows(inner, f"{key}.")


def code(value: object) -> str:
    """Return a default as it is written on the command line."""
    if isinstance(value, list):
        value = f"[{','.join(code(entry).strip('`') for entry in value)}]"
    elif isinstance(value, bool) or value is None:
        value = {True: "true", False: "false", None: "null"}[value]
    return "required" if value == "???" else f"`{value}`"


def commands_page() -> str:
    """Return examples, keys and help of every command."""
    parts = ["# Commands", COMMANDS_TEXT, "| command | | extra |\n| --- | --- | --- |"]
    for verb, spec in COMMANDS.items():
        name, (purpose, examples) = command_name(verb), about(verb)
        parts[2] += f"\n| [`{name}`](#{name}) | {purpose.splitlines()[0]} | `{spec.extra}` |"
        own = key_table(spec.options, without=GROUPS)
        groups = [f"[`{group}`](config.md#{group})" for group in groups_of(spec.options)]
        also = f"\n\nGroups: {', '.join(groups)}." if groups else ""
        parts += [
            f"## {name}",
            purpose,
            f"```text\n{examples}\n```",
            own + also,
            HELP.format(name=name, text=help_text(CONF, verb, "all")),
        ]
    return "\n\n".join(parts) + "\n"


def about(verb: str) -> tuple[str, str]:
    """Return the purpose of a command, and its examples, from the head of its config."""
    paragraphs: dict[bool, list[str]] = {True: [], False: []}
    for paragraph in leading_comment(CONF / f"{verb}.yaml").split("\n\n"):
        is_example = paragraph.startswith("    ")
        paragraphs[is_example].append(paragraph)
    examples = "\n\n".join(paragraphs[True])
    return "\n\n".join(paragraphs[False]), re.sub(r"^    ", "", examples, flags=re.MULTILINE)


def groups_of(options: Any) -> list[str]:
    """Return the groups of a command."""
    return [field.name for field in key_fields(options) if field.name in GROUPS]


def python_page(page: str) -> str:
    """Return a page that mkdocstrings fills with the public names of a package."""
    package, text = PYTHON[page]
    lines = [f"# `{package}`", text]
    for name in public_names(package):
        lines.append(f"::: {package}.{name}")
        cls = getattr(importlib.import_module(package), name, None)
        if dataclasses.is_dataclass(cls) and key_fields(cls):
            lines[-1] += "\n    options:\n      show_signature: false"
            lines.append(key_table(cls))
    return "\n\n".join(lines) + "\n"


def public_names(package: str) -> list[str]:
    """Return the public names of a package, sorted as it sorts them."""
    if package == "wavenet.features":
        return FEATURES
    module = importlib.import_module(package)
    if package == "wavenet.utils.errors":
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        return [name for name in names if name.endswith("Error")]
    names = wavenet.__all__ if module is wavenet else module.__all__
    shown_elsewhere = () if module is wavenet else wavenet.__all__
    return [name for name in names if name not in shown_elsewhere]


def examples_page() -> str:
    """Return the programs of `examples/`, each below its docstring."""
    parts = ["# Examples", "Programs of one idea each, in `examples/`; the tests run them."]
    for path in sorted((ROOT / "examples").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(source)) or ""
        body = source.partition(docstring + '\n"""')[2] if docstring else source
        parts += [f"## {path.name}", docstring, f"```python\n{body.strip()}\n```"]
    return "\n\n".join(parts) + "\n"
