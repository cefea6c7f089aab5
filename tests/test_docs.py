"""The documentation names files and packages that exist, and the import layers as they are held."""

import re
from pathlib import Path

import pytest

from tests.commands import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
PATH = re.compile(r"`((?:wavenet|recipes|conf|examples|tests|docs|\.ci)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_point_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))

    missing = [
        link
        for link in links
        if not link.startswith("https://") and not (page.parent / link).exists()
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_paths_exist(page: Path) -> None:
    paths = PATH.findall(page.read_text(encoding="utf-8"))

    missing = [path for path in paths if "NAME" not in path and not (ROOT / path).exists()]

    assert missing == []


def test_architecture_lists_every_package() -> None:
    packages = {path.parent.name for path in (ROOT / "wavenet").glob("*/__init__.py")}

    assert {name for name in packages if f"`{name}/`" not in ARCHITECTURE} == set()


def test_architecture_shows_the_import_layers() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.search(r'type = "layers"\nlayers = \[(.*?)\]', contract, re.DOTALL)

    assert layers is not None
    expected = [name.replace("wavenet.", "") for name in re.findall(r'"([^"]+)"', layers[1])]
    assert "```\n" + "\n".join(expected) + "\n```" in ARCHITECTURE
