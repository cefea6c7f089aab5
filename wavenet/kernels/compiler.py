"""How kernels are compiled: Python functions by Numba, or instructions written with llvmlite.

No fast math: every operation follows IEEE 754 and nothing is reordered, so results depend neither
on the surrounding code nor on the machine.
"""

from collections.abc import Callable
from typing import Any

from numba import njit, types

from wavenet.kernels.numba_internals import WITHOUT_REFERENCE_COUNTS, make_intrinsic

Builder = Any  # llvmlite is not typed
Value = Any
Address = int  # of memory, in compiled code
ADDRESS = types.int64

_OPTIONS: dict[str, Any] = {"boundscheck": False, "error_model": "numpy", "nogil": True}


def compiled(
    function: Callable[..., Any], name_suffix: str = "", *, counts_references: bool = True
) -> Any:
    """Compile a function at its first call.

    Args:
        function: To compile.
        name_suffix: Distinguishes functions that one factory makes for several weight dtypes. Code
            from several cache files is linked by name: two functions of one name would become one.
        counts_references: False for a function that creates no arrays; passing arrays on, also to
            inlined functions, then costs nothing.
    """
    function.__qualname__ += name_suffix
    options = {} if counts_references else WITHOUT_REFERENCE_COUNTS
    return njit(**_OPTIONS, **options)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function as a part of its callers, which are optimized as one unit."""
    return njit(inline="always", **_OPTIONS)(function)


def llvm_function(
    return_type: Any, *argument_types: Any
) -> Callable[[Callable[..., Value | None]], Any]:
    """Return a decorator for functions that write instructions with an llvmlite builder.

    The decorated function takes the builder and one value per argument, and returns the result.
    Compiled code calls it without the builder.
    """

    def decorate(emit: Callable[..., Value | None]) -> Any:
        return make_intrinsic(emit, return_type, argument_types)

    return decorate
