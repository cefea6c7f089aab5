"""How kernels are compiled: Python functions by Numba, or instructions written with llvmlite.

No fast math: every operation follows IEEE 754 and nothing is reordered, so results depend neither
on the surrounding code nor on the machine.

This file and `references.py` use what Numba does not document; `pyproject.toml` bounds its version
for them, and a test compares this list with the installed version:

- `Dispatcher._cache`, an object with `load_overload`, `save_overload`, `flush` and `cache_path`;
- `CompileResult._reduce` and `_rebuild`, and `numba.core.serialize`, which turn a compiled function
  into bytes and back;
- `cpu_target.target_context`: its `codegen().magic_tuple()` names the processor and its features,
  its `refresh()` loads what deserialized code refers to;
- `Dispatcher.overloads`, whose `library` and `fndesc` know the address of a function's code;
- the options `_nrt`, which turns off the counting of references to arrays, and
  `no_cpython_wrapper` and `no_cfunc_wrapper`;
- `func_id.func` of the function that a rule for inlining is asked about;
- the bases of a type, `types.Type` and `AttributeTemplate`, and `impl_ret_borrowed`;
- `numba.extending.intrinsic`, which is documented, reading the signature of a typing function that
  was made at run time.
"""

import inspect
import pickle  # noqa: TID251 only for what this user wrote, in a folder that is closed to others
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from numba import njit, types
from numba.core import registry, serialize
from numba.core.compiler import CompileResult
from numba.extending import intrinsic

from wavenet.utils.collector import without_collector
from wavenet.utils.signals import signals_deferred

Builder = Any  # llvmlite is not typed
Value = Any
Address = int  # of memory, in compiled code
ADDRESS = types.int64

_OPTIONS: dict[str, Any] = {"boundscheck": False, "error_model": "numpy", "nogil": True}
_inlined_functions: set[Callable[..., Any]] = set()


@contextmanager
def compiling() -> Iterator[None]:
    """Compile without Python's cycle collector, and answer signals afterwards.

    LLVM calls Python, and what a signal's handler raises there would be lost.
    """
    with without_collector(), signals_deferred():
        yield


def compiled(
    function: Callable[..., Any],
    name_suffix: str = "",
    *,
    counts_references: bool = True,
    is_entry: bool = True,
    has_address: bool = False,
) -> Any:
    """Compile a function at its first call.

    Args:
        function: To compile.
        name_suffix: Distinguishes functions that one factory makes for several weight dtypes. Code
            from several cache files is linked by name: two functions of one name would become one.
        counts_references: False for a function that creates no arrays; passing arrays on, also to
            inlined functions, then costs nothing.
        is_entry: False for a function that only compiled code calls, which compiles faster.
        has_address: True for a function that `address_of` is asked about.
    """
    function.__qualname__ += name_suffix
    options = {"no_cfunc_wrapper": not has_address, "no_cpython_wrapper": not is_entry}
    if not counts_references:
        options["_nrt"] = False
    return njit(**_OPTIONS, **options)(function)


def called(function: Callable[..., Any]) -> Any:
    """Compile a function that compiled code calls, as one for all of its callers."""
    return compiled(function, counts_references=False, is_entry=False)


def address_of(dispatcher: Any, signature: Any) -> Address:
    """Return where the code of a compiled function is, for callers in C or in compiled code."""
    dispatcher.compile(signature)
    result = dispatcher.overloads[signature.args]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function as a part of its callers, which are optimized as one unit."""
    _inlined_functions.add(function)
    return njit(inline=_into_entry, **_OPTIONS)(function)


def _into_entry(_: Any, caller: Any, __: Any) -> bool:
    """Inline all calls at once into the entry, not first into each other.

    Numba copies what it inlines, with a table of all its names for every block: level by level,
    that took half of the time of compilation.
    """
    return caller.func_id.func not in _inlined_functions


def llvm_function(
    return_type: Any, *argument_types: Any
) -> Callable[[Callable[..., Value | None]], Any]:
    """Return a decorator for functions that write instructions with an llvmlite builder.

    The decorated function takes the builder and one value per argument, and returns the result.
    Compiled code calls it without the builder.
    """

    def decorate(emit: Callable[..., Value | None]) -> Any:
        def typing(context: Any, *given: Any) -> tuple[Any, Callable[..., Any]]:
            def generate(target: Any, builder: Builder, _: Any, values: Any) -> Value:
                result = emit(builder, *values)
                return target.get_dummy_value() if result is None else result

            return return_type(*argument_types), generate

        names = ["context", *(f"argument{index}" for index in range(len(argument_types)))]
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        typing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        typing.__name__ = emit.__name__
        return intrinsic(typing)

    return decorate


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
