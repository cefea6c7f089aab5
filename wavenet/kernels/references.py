"""Named tuples that compiled code passes on by reference.

A tuple of arrays is dozens of numbers, which LLVM would copy at every call and every assignment;
that takes most of the time of compilation. A reference is one address, and has the same attributes.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    models,
    register_model,
)

from wavenet.kernels.compiler import Builder, Value


class Reference(types.Type):  # type: ignore[misc]
    """The type of a reference to a named tuple, for Numba."""

    def __init__(self, target: Any) -> None:
        super().__init__(f"Reference({target})")
        self.target = target

    @property
    def key(self) -> Any:
        return self.target.instance_class  # cheaper to compare than all of its fields' types

    def attribute(self, name: str) -> Any:
        """Return the type of an attribute: that of the field, or a reference to it; else `None`."""
        if name not in self.target.fields:
            return None
        field = self.target[self.target.fields.index(name)]
        return Reference(field) if isinstance(field, types.BaseNamedTuple) else field


register_model(Reference)(models.OpaqueModel)


@intrinsic  # type: ignore[untyped-decorator]
def in_memory(_: Any, named_tuple: Any) -> Any:
    """Put a named tuple into memory until the function returns; return a reference to it."""

    def generate(_: Any, builder: Builder, __: Any, values: Any) -> Value:
        return builder.bitcast(cgutils.alloca_once_value(builder, values[0]), cgutils.voidptr_t)

    return Reference(named_tuple)(named_tuple), generate


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]
    key = Reference

    def generic_resolve(self, reference: Reference, name: str) -> Any:
        return reference.attribute(name)


@lower_getattr_generic(Reference)  # type: ignore[untyped-decorator]
def _load(context: Any, builder: Builder, reference: Reference, value: Value, name: str) -> Value:
    index = ir.Constant(ir.IntType(32), reference.target.fields.index(name))
    struct = context.get_value_type(reference.target).as_pointer()
    place = builder.gep(builder.bitcast(value, struct), [ir.IntType(32)(0), index], inbounds=True)
    if isinstance(reference.attribute(name), Reference):
        return builder.bitcast(place, cgutils.voidptr_t)
    return impl_ret_borrowed(context, builder, reference.attribute(name), builder.load(place))
