"""The Python of README and documentation runs, and its command lines compose."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.test_compose import plain
from tests.commands import ROOT
from wavenet.checkpoint import save
from wavenet.cli.commands import COMMANDS
from wavenet.cli.compose import split_paths
from wavenet.cli.words import FLAGS_WITH_VALUE, as_overrides, check_words
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.utils.dataclass_io import from_dict

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^|\s|\(which )wavenet-([a-z-]+)\b\)?(.*)")
SHELL = {"$SLURM_ARRAY_TASK_ID": "1", "$S": "1/8"}  # what scripts set


def blocks(page: str, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(PAGES[page]) if found == language]


def command_lines(page: str) -> list[tuple[str, str]]:
    """Verb and words of every command of a page."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = re.split(r"\n|\s&&\s", text)
    return [(match[1], match[2]) for line in lines if (match := COMMAND.search(line))]


def trained_runs(page: str) -> set[str]:
    """Names of the runs that the commands of a page train: the only ones that its Python has."""
    lines = [words for verb, words in command_lines(page) if verb == "train"]
    options: list[dict[str, str]] = [
        dict(re.findall(r"\b(recipe|name)=(\w+)", words)) for words in lines
    ]
    return {found.get("name") or found["recipe"] for found in options if found}


DENSITY = WaveNetConfig(
    dilations=(1, 2),
    output_distribution="gaussian_mixture",
    quantization_channels=65536,
    input_type="mu-law",
)
RUN = [page for page in PAGES if blocks(page, "python")]
COMPOSED = sorted({line for page in PAGES for line in command_lines(page)})


@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for run in trained_runs(page):
        model = WaveNet(DENSITY)  # as most recipes train: top_k and top_p are refused
        save(model, f"runs/{run}/model", AudioConfig(sample_rate=8000))
    Path("models").mkdir()

    for code in blocks(page, "python"):  # each stands alone
        exec(code, {})  # noqa: S102


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_command_lines_of_all_pages_compose(verb: str) -> None:
    shown = [words for name, words in COMPOSED if name.replace("-", "_") == verb]

    for line in shown:
        for name, value in SHELL.items():
            line = line.replace(name, value)
        words = as_overrides(verb, shlex.split(line, comments=True))
        if "--help" in words:  # composes nothing
            continue
        is_swept = "-m" in words
        words = without_flags(words)
        paths, rest = split_paths(words)
        check_words(verb, rest)
        if is_swept:  # swept keys have several values: they only have to exist
            continue
        config = plain(*rest, verb=verb)
        for key, value in paths.items():
            put(config, key, value)
        from_dict(COMMANDS[verb].options, config)

    assert shown


def without_flags(words: list[str]) -> list[str]:
    """A command line without Hydra's flags and their values."""
    kept, left = [], list(words)
    while left:
        word = left.pop(0)
        if word in FLAGS_WITH_VALUE:
            left.pop(0)
        elif not word.startswith("-"):
            kept.append(word)
    return kept


def put(config: dict[str, object], key: str, value: str) -> None:
    node = config
    *parents, leaf = key.split(".")
    for parent in parents:
        inner = node[parent]
        assert isinstance(inner, dict)
        node = inner
    assert leaf in node, key
    node[leaf] = None if value == "null" else value


@pytest.mark.parametrize("group", ["recipe", "model"])
def test_every_recipe_and_model_is_listed(group: str) -> None:
    names = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} - {"tiny"}
    page = PAGES["docs/guides/configuration.md"]

    assert {name for name in names if f"`{name}`" not in page} == set()


def test_readme_is_short_and_only_shows() -> None:
    lines = PAGES["README.md"].splitlines()

    assert len(lines) <= 150
