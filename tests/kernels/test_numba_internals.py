import re

import numba
from packaging.specifiers import SpecifierSet

from tests.commands import ROOT
from wavenet.kernels.numba_internals import missing_names


def test_the_installed_numba_is_within_the_declared_bounds() -> None:
    declared = re.search(r'"numba([^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert declared is not None
    assert "<" in declared[1], "pyproject.toml must bound numba: numba_internals.py needs it"
    assert numba.__version__ in SpecifierSet(declared[1]), (
        f"numba {numba.__version__} is installed, pyproject.toml declares {declared[1]}: check "
        "wavenet/kernels/numba_internals.py against this version, then move the bound"
    )


def test_the_installed_numba_has_the_private_names_in_use() -> None:
    assert missing_names() == [], "wavenet/kernels/numba_internals.py relies on these"


def test_private_names_of_numba_are_used_in_one_file() -> None:
    private = re.compile(
        r"numba\.core(?! import cgutils)|\._cache\b|\._rebuild|\._reduce\b|magic_tuple"
    )

    using = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "wavenet").rglob("*.py"))
        if private.search(path.read_text(encoding="utf-8"))
    ]

    assert using == ["wavenet/kernels/numba_internals.py"]
