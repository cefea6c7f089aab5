"""What hosts, editors and hooks read: it parses, and what it names exists."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.commands import ROOT
from tests.packaging.test_wheel import SOURCES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
YAML = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"])
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
TEXTS = [ROOT / name for name in ("SECURITY.md", "CODE_OF_CONDUCT.md")]


def dev_requirement(name: str) -> Requirement:
    extras = PROJECT["project"]["optional-dependencies"]["dev"]
    return next(one for one in map(Requirement, extras) if one.name == name)


def steps(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.stem)
def test_yaml_of_the_repository_is_a_mapping(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_an_issue_form_has_fields_with_unique_ids(name: str) -> None:
    form = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text("utf-8"))

    fields = [field for field in form["body"] if field["type"] != "markdown"]

    assert {"name", "description", "body"} <= form.keys()
    assert len({field["id"] for field in fields}) == len(fields) >= 3
    assert all(field["attributes"]["label"] for field in fields)


def test_ci_runs_the_whole_script_with_the_oldest_and_newest_python() -> None:
    job = WORKFLOW["jobs"]["linux"]
    versions = job["strategy"]["matrix"]["python"]
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    documented = re.search(r"Python (3\.\d+) to (3\.\d+)", (ROOT / "CONTRIBUTING.md").read_text())

    assert steps(job) == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert documented is not None
    assert versions == [*documented.groups()]
    assert str(supported) == f">={versions[0]}"
    assert all(version in supported for version in versions)


def test_ci_elsewhere_installs_known_extras_and_runs_tests_that_exist() -> None:
    install, test = map(shlex.split, steps(WORKFLOW["jobs"]["elsewhere"]))
    named, packages = [word for word in test if word.startswith("tests/")], install[5:]

    assert install[:5] == ["python", "-m", "pip", "install", "--editable"]
    extras = re.findall(r"\w+", packages[0])
    assert set(extras) <= PROJECT["project"]["optional-dependencies"].keys()
    for package in map(Requirement, packages[1:]):
        assert package.specifier == dev_requirement(package.name).specifier
    assert len(named) == len(test) - 3 > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_script_of_ci_calls_targets_of_make() -> None:
    called = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text("utf-8"), re.MULTILINE)

    assert {"check", "test"} <= {*called} <= {*TARGETS}


def test_hooks_run_the_version_of_ruff_and_the_tools_of_make_check() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    ruff, local = hooks

    assert ruff["rev"].removeprefix("v") in dev_requirement("ruff").specifier
    assert {hook["id"] for hook in ruff["hooks"]} == {"ruff-check", "ruff-format"}
    for hook in local["hooks"]:
        assert f"$(BIN)/{hook['entry'].removeprefix('.venv/bin/')}\n" in makefile


def test_the_image_is_built_from_what_a_package_is_built_from() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    installed = re.search(r"/src\[([\w,]+)\]", dockerfile)

    assert installed is not None
    assert {*installed[1].split(",")} <= PROJECT["project"]["optional-dependencies"].keys()
    assert {line[1:] for line in ignored if line.startswith("!")} == {*SOURCES}
    version = re.search(r"^FROM python:([\d.]+)-slim$", dockerfile, re.MULTILINE)
    assert version is not None
    assert version[1] in SpecifierSet(PROJECT["project"]["requires-python"])
    (command,) = re.findall(r'^CMD \["([\w-]+)"', dockerfile, re.MULTILINE)
    assert command in PROJECT["project"]["scripts"]


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_links_and_tests_that_a_policy_names_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    names = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r"`(tests/[\w/.]+)`", text)

    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_citation_names_this_version_and_its_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    papers = {reference["url"] for reference in citation["references"]}

    assert citation["title"] == PROJECT["project"]["name"]
    assert citation["version"] == PROJECT["project"]["version"]
    assert {*PROJECT["project"]["urls"].values()} == papers
