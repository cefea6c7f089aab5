"""How functions of the kernel are compiled: by Numba, or written down in its own language (LLVM's).

No fast maths: every operation is IEEE's own and nothing is reordered, so that numbers do not depend
on what else is compiled, nor on the machine.
"""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import njit
from numba.core import registry, types
from numba.extending import intrinsic

Builder = Any  # llvmlite has no types
Value = Any
Address = int  # of memory
ADDRESS = types.int64

_PLAIN: dict[str, Any] = {"boundscheck": False, "error_model": "numpy", "nogil": True}


def compiled(function: Callable[..., Any], precision: str = "") -> Any:
    """Compile a function at its first call.

    Args:
        function: To compile.
        precision: What tells it from its siblings in the same place. Code that comes from several
            files of the cache is put together by name: two of one name would become one.
    """
    function.__qualname__ += precision
    return njit(**_PLAIN)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function as a part of each that calls it: one optimisation in place of many."""
    return njit(inline="always", **_PLAIN)(function)


def processor() -> str:
    """Return the kind of processor that code is compiled for, in LLVM's words."""
    return str(registry.cpu_target.target_context.codegen().magic_tuple()[1])


@lru_cache
def features() -> frozenset[str]:
    """Return the instruction sets that code is compiled for, in LLVM's words."""
    said = registry.cpu_target.target_context.codegen().magic_tuple()[2]
    return frozenset(word[1:] for word in said.split(",") if word.startswith("+"))


def emitted(signature: Any, *arguments: Any) -> Callable[[Callable[..., Value]], Any]:
    """Return a decorator that makes compiled code's functions of ones that write instructions.

    Args:
        signature: Numba's type of what the function returns.
        *arguments: Types of what it takes.
    """

    def decorate(emit: Callable[..., Value]) -> Any:
        def typing(context: Any, *given: Any) -> tuple[Any, Callable[..., Value]]:
            def generate(target: Any, builder: Builder, _: Any, values: Any) -> Value:
                result = emit(builder, *values)
                return target.get_dummy_value() if result is None else result

            return signature(*arguments), generate

        names = ["context", *list(inspect.signature(emit).parameters)[1:]]
        plain = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        typing.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
        typing.__name__ = emit.__name__
        return intrinsic(typing)

    return decorate
