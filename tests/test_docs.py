"""The documentation names files, packages and headings that exist, and the layers as held."""

import re
from pathlib import Path

import pytest

from docs.tools.generated import pages
from tests.commands import ROOT
from wavenet.utils import errors

DOCS = ROOT / "docs"
OF_REPOSITORY = (ROOT / "README.md", ROOT / "CONTRIBUTING.md")  # read without the site
GENERATED = {DOCS / place: text for place, text in pages().items()}
WRITTEN = {
    path: path.read_text(encoding="utf-8") for path in (*OF_REPOSITORY, *sorted(DOCS.rglob("*.md")))
}
PAGES = WRITTEN | GENERATED
ARCHITECTURE = WRITTEN[DOCS / "explanation" / "architecture.md"]
PATH = re.compile(r"`((?:wavenet|recipes|conf|examples|tests|docs|\.ci)/[\w./-]*)`")
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(text: str) -> set[str]:
    """The ids that headings get on the site."""
    headings = re.findall(r"^#{1,6} (.*)$", FENCE.sub("", text), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    words = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in plain]
    return {re.sub(r"[-\s]+", "-", heading) for heading in words}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_point_to_files_and_headings(page: Path) -> None:
    missing = []
    for place, anchor in LINK.findall(FENCE.sub("", PAGES[page])):
        target = (page.parent / place).resolve() if place else page
        known = WRITTEN if page in OF_REPOSITORY else PAGES
        if target not in known and not target.exists():
            missing.append(place)
        elif anchor and "reference/python" not in place:
            missing += [place + anchor] * (anchor[1:] not in anchors(PAGES[target]))

    assert missing == []


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_named_paths_exist(page: Path) -> None:
    paths = PATH.findall(WRITTEN[page])

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


def test_the_page_of_exit_codes_has_every_exception() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)`", WRITTEN[DOCS / "reference/exit_codes.md"], re.M)

    raised = [errors.ConfigError, errors.DataError, errors.CheckpointError, errors.MachineError]
    assert rows == [(str(cls.exit_code), cls.__name__) for cls in raised]


def test_the_page_of_keys_has_every_group_and_nested_keys() -> None:
    page = GENERATED[DOCS / "reference/config.md"]

    for key in ("audio.mel.n_fft", "model.local.lookahead", "data.root", "optim.lr"):
        assert f"| `{key}` |" in page
    assert "| `optim.lr` | `0.001` | positive |" in page
