import re

import numba
from numba.core import registry, serialize
from numba.core.compiler import CompileResult
from numba.core.options import DefaultOptions
from packaging.specifiers import SpecifierSet

from tests.commands import ROOT


def test_the_installed_numba_is_within_the_declared_bounds() -> None:
    declared = re.search(r'"numba([^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert declared is not None
    assert "<" in declared[1], "pyproject.toml must bound numba: compiler.py needs it"
    assert numba.__version__ in SpecifierSet(declared[1]), (
        f"numba {numba.__version__} is installed, pyproject.toml declares {declared[1]}: check "
        "wavenet/kernels/compiler.py against this version, then move the bound"
    )


def test_the_installed_numba_has_the_private_names_in_use() -> None:
    context = registry.cpu_target.target_context
    wanted = [
        (CompileResult, "_reduce"),
        (CompileResult, "_rebuild"),
        (serialize, "dumps"),
        (DefaultOptions, "_nrt"),
        (numba.njit(lambda x: x), "_cache"),
        (context, "refresh"),
        (context.codegen(), "magic_tuple"),
    ]

    missing = [f"{owner!r}.{name}" for owner, name in wanted if not hasattr(owner, name)]

    assert missing == [], "wavenet/kernels/compiler.py relies on these"


def test_private_names_of_numba_are_used_in_one_file() -> None:
    private = re.compile(
        r"numba\.core(?! import cgutils)|\._cache\b|\._rebuild\b|\._reduce\b|magic_tuple"
    )

    using = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "wavenet").rglob("*.py"))
        if private.search(path.read_text(encoding="utf-8"))
    ]

    assert using == ["wavenet/kernels/compiler.py"]
