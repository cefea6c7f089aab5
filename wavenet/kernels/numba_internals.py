"""The one file that uses what Numba does not document. `pyproject.toml` bounds its version for it.

It relies on
- `Dispatcher._cache`, an object with `load_overload`, `save_overload`, `flush` and `cache_path`;
- `CompileResult._reduce` and `_rebuild`, and `numba.core.serialize`, which turn a compiled function
  into bytes and back;
- `cpu_target.target_context`: its `codegen().magic_tuple()` names the processor and its features,
  its `refresh()` loads what deserialized code refers to;
- the option `_nrt`, which turns off the counting of references to arrays;
- `numba.extending.intrinsic`, which is documented, reading the signature of a typing function that
  was made at run time.

A test compares this list with the installed version.
"""

import inspect
import pickle  # noqa: TID251 only for what this user wrote, in a folder that is closed to others
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import njit
from numba.core import registry, serialize
from numba.core.compiler import CompileResult
from numba.core.options import DefaultOptions
from numba.extending import intrinsic

WITHOUT_REFERENCE_COUNTS = {"_nrt": False}


def missing_names() -> list[str]:
    """Return what the installed version of Numba lacks of what this file relies on."""
    context = registry.cpu_target.target_context
    wanted = [
        (CompileResult, "_reduce"),
        (CompileResult, "_rebuild"),
        (serialize, "dumps"),
        (DefaultOptions, "_nrt"),
        (njit(_identity), "_cache"),
        (context, "refresh"),
        (context.codegen(), "magic_tuple"),
    ]
    return [f"{owner!r}.{name}" for owner, name in wanted if not hasattr(owner, name)]


def processor() -> str:
    """Return LLVM's name of the processor that code is compiled for."""
    return str(registry.cpu_target.target_context.codegen().magic_tuple()[1])


@lru_cache
def features() -> frozenset[str]:
    """Return LLVM's names of the instruction sets that code is compiled for."""
    names = registry.cpu_target.target_context.codegen().magic_tuple()[2]
    return frozenset(name[1:] for name in names.split(",") if name.startswith("+"))


def target_key(codegen: Any) -> str:
    """Return what compiled code depends on besides its source: the processor's features."""
    return repr(codegen.magic_tuple())


def get_cache(dispatcher: Any) -> Any:
    """Return the cache of a compiled function."""
    return dispatcher._cache


def set_cache(dispatcher: Any, cache: Any) -> None:
    """Give a compiled function a cache."""
    dispatcher._cache = cache


def compiled_to_bytes(result: Any) -> bytes:
    """Return a compiled function as bytes."""
    content: bytes = serialize.dumps(result._reduce())
    return content


def compiled_from_bytes(content: bytes, target: Any) -> Any:
    """Return the compiled function in `content`, which runs code: check its origin before."""
    target.refresh()
    return CompileResult._rebuild(target, *pickle.loads(content))  # noqa: S301


def make_intrinsic(
    emit: Callable[..., Any], return_type: Any, argument_types: tuple[Any, ...]
) -> Any:
    """Return an intrinsic with fixed types; `emit(builder, *values)` writes its instructions."""

    def typing(context: Any, *given: Any) -> tuple[Any, Callable[..., Any]]:
        def generate(target: Any, builder: Any, _: Any, values: Any) -> Any:
            result = emit(builder, *values)
            return target.get_dummy_value() if result is None else result

        return return_type(*argument_types), generate

    names = ["context", *list(inspect.signature(emit).parameters)[1:]]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
    typing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typing.__name__ = emit.__name__
    return intrinsic(typing)


def _identity(x: Any) -> Any:
    return x
