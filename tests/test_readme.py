"""README's Python examples run and its command lines compose."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.test_compose import plain
from tests.commands import ROOT
from wavenet.checkpoint import save
from wavenet.cli.compose import split_paths
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^(wavenet-[a-z-]+) ([^#\n]*)", README, re.MULTILINE)
VERBS = (
    "prepare",
    "train",
    "generate",
    "evaluate",
    "benchmark",
    "benchmark_train",
    "benchmark_blocks",
    "inspect",
    "import",
    "push",
)


@pytest.mark.parametrize("code", PYTHON)
def test_python_examples_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(WaveNet(WaveNetConfig(dilations=(1, 2))), "runs/demo/model", AudioConfig(sample_rate=8000))

    exec(code, {})  # noqa: S102


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_lines_compose(command: tuple[str, str]) -> None:
    verb = command[0].removeprefix("wavenet-").replace("-", "_")
    words = shlex.split(command[1])
    arguments = [word for word in words if not word.startswith("-")]
    keys, rest = split_paths(arguments)
    if "-m" in words:  # swept keys have several values: they only have to exist
        keys, rest = {word.partition("=")[0]: "" for word in arguments}, []

    config = plain(*rest, verb=verb)

    assert verb in VERBS
    for key in keys.keys() - {"recipe", "launcher", "sweeper"}:
        if key.startswith("hydra."):
            continue
        node = config
        for part in key.split("."):
            assert part in node, key
            node = node[part]


def test_every_command_is_shown() -> None:
    assert {command for command, _ in COMMANDS} == {
        f"wavenet-{verb.replace('_', '-')}" for verb in VERBS
    }


@pytest.mark.parametrize("group", ["recipe", "model"])
def test_every_recipe_and_model_is_listed(group: str) -> None:
    names = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} - {"tiny"}

    assert {name for name in names if f"`{name}`" not in README} == set()
