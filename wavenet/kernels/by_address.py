"""Functions that compiled code calls by their address.

Each is compiled by itself when a model needs it first, and cached by itself: what a model does not
use costs no time, and what several kernels use is compiled once. Such a call takes a nanosecond or
two more than one that LLVM knows, which is little beside a matrix product.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llvmlite import ir

from wavenet.kernels.cache import KernelCache
from wavenet.kernels.compiler import (
    ADDRESS,
    Address,
    Builder,
    Value,
    address_of,
    compiled,
    compiling,
    llvm_function,
    set_cache,
)
from wavenet.kernels.private_files import private_folder


class FunctionByAddress:
    """A compiled function of numbers, called from Python, or from compiled code by its address.

    Args:
        function: To compile.
        signature: Its Numba types.
        name: Of its files in the cache; a function that is made per weight dtype has one each.
        sources: Python files that it is compiled from, or their folders.
        counts_references: As `compiled` takes it.
        is_entry: False for a function that is called by its address only.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        signature: Any,
        name: str,
        sources: Sequence[Path],
        *,
        counts_references: bool = False,
        is_entry: bool = True,
    ) -> None:
        self._signature = signature
        self._compiled = compiled(
            function,
            name,
            counts_references=counts_references,
            is_entry=is_entry,
            has_address=True,
        )
        self._name, self._sources = name, sources

    @cached_property
    def address(self) -> Address:
        """The address, which is loaded from disk or compiled when it is asked for first."""
        set_cache(self._compiled, KernelCache(self._name, private_folder(), self._sources))
        with compiling():
            return address_of(self._compiled, self._signature)

    def __call__(self, *arguments: Any) -> Any:
        assert self.address
        return self._compiled(*arguments)


def call_of(signature: Any) -> Any:
    """Return `call(address, *arguments)` for compiled code, for functions of one signature."""

    @llvm_function(signature.return_type, ADDRESS, *signature.args)
    def call(builder: Builder, address: Value, *arguments: Value) -> Value | None:
        result = RESULTS[str(signature.return_type)]
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        value = builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)
        return None if result == ir.VoidType() else value

    return call


RESULTS = {"none": ir.VoidType(), "int64": ir.IntType(64)}
