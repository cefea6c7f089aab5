import re
import signal
from typing import Any

import numba
import pytest
from numba.core import ir, registry, serialize
from numba.core.compiler import CompileResult
from numba.core.options import DefaultOptions
from packaging.specifiers import SpecifierSet

from tests.commands import ROOT
from wavenet.kernels.compiler import compiled, compiling, inlined


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
    signature = numba.types.int64(numba.types.int64)
    compiled_function = numba.njit(signature)(lambda x: x).overloads[signature.args]
    wanted = [
        (CompileResult, "_reduce"),
        (CompileResult, "_rebuild"),
        (serialize, "dumps"),
        (DefaultOptions, "_nrt"),
        (DefaultOptions, "no_cpython_wrapper"),
        (DefaultOptions, "no_cfunc_wrapper"),
        (numba.njit(lambda x: x), "_cache"),
        (numba.njit(lambda x: x), "overloads"),
        (compiled_function.library, "get_pointer_to_function"),
        (compiled_function.fndesc, "llvm_cfunc_wrapper_name"),
        (context, "refresh"),
        (context.codegen(), "magic_tuple"),
    ]

    missing = [f"{owner!r}.{name}" for owner, name in wanted if not hasattr(owner, name)]

    assert missing == [], "wavenet/kernels/compiler.py relies on these"


def test_functions_are_inlined_into_the_entry_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copied: list[ir.Scope] = []

    def copy(scope: ir.Scope, _: object) -> ir.Scope:
        copied.append(scope)
        return scope

    monkeypatch.setattr(ir.Scope, "__deepcopy__", copy, raising=False)

    @inlined
    def leaf(x: Any) -> Any:
        return x + 1

    @inlined
    def middle(x: Any) -> Any:
        return leaf(x) + leaf(x)

    @compiled
    def top(x: Any) -> Any:
        return middle(x) * middle(x)

    assert top(3) == 64
    names = [" ".join(scope.localvars._con) for scope in copied]  # of a function and what is in it
    assert names, "Numba copies no names any more: wavenet.kernels.compiler need not care"
    assert not any("leaf" in one and "middle" in one for one in names)


def test_private_names_of_numba_are_used_in_two_files() -> None:
    private = re.compile(
        r"numba\.core(?! import cgutils)|\._cache\b|\._rebuild\b|\._reduce\b|magic_tuple"
    )

    using = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "wavenet").rglob("*.py"))
        if private.search(path.read_text(encoding="utf-8"))
    ]

    assert using == ["wavenet/kernels/compiler.py", "wavenet/kernels/references.py"]


def test_ctrl_c_while_compiling_is_answered_afterwards() -> None:
    before, done = signal.signal(signal.SIGINT, signal.default_int_handler), False
    try:
        with pytest.raises(KeyboardInterrupt), compiling():
            signal.raise_signal(signal.SIGINT)
            done = True
    finally:
        signal.signal(signal.SIGINT, before)

    assert done
