"""Arithmetic on sixteen numbers at once, written down for the JIT compiler.

Numba turns loops into vector instructions where its optimiser sees a way, which it often does not.
Here the vectors are said outright, in the compiler's own language (LLVM's), through a `Vector` that
has the operators of a number. LLVM fits them to the machine: one register with AVX-512, two with
AVX2, four with NEON.

Every operation is IEEE's own, a product and a sum are fused only where it says so, and nothing may
be reordered: so the same numbers come out whatever surrounds the code and however wide the machine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llvmlite import ir
from numba.core import cgutils

from wavenet.kernels.compiler import Builder, Value

LANES = 16
BYTES = 4 * LANES  # of a vector


class BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat16, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


I1, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
F32 = ir.FloatType()
FLOATS, INTS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)
BFLOATS = ir.VectorType(BFloat(), LANES)
POINTER = ir.PointerType()


class Vector:
    """Sixteen numbers of one type, with the operators of a number.

    Args:
        builder: Where the instructions go.
        value: An LLVM vector of floats or of 32-bit integers.
    """

    def __init__(self, builder: Builder, value: Value) -> None:
        self.builder = builder
        self.value = value

    def _with(self, name: str, other: "Vector | float") -> "Vector":
        floats = self.value.type == FLOATS
        operand = other if isinstance(other, Vector) else self.like(other)
        method = getattr(self.builder, ("f" if floats else "") + name)
        return Vector(self.builder, method(self.value, operand.value))

    def like(self, number: float) -> "Vector":
        """Return a number sixteen times."""
        return constant(self.builder, number, self.value.type)

    def __add__(self, other: "Vector | float") -> "Vector":
        return self._with("add", other)

    def __sub__(self, other: "Vector | float") -> "Vector":
        return self._with("sub", other)

    def __mul__(self, other: "Vector | float") -> "Vector":
        return self._with("mul", other)

    def __truediv__(self, other: "Vector | float") -> "Vector":
        return self._with("div", other)

    def __and__(self, mask: int) -> "Vector":
        return Vector(self.builder, self.builder.and_(self.value, self.like(mask).value))

    def __lshift__(self, bits: int) -> "Vector":
        return Vector(self.builder, self.builder.shl(self.value, self.like(bits).value))

    def __rshift__(self, bits: int) -> "Vector":
        return Vector(self.builder, self.builder.lshr(self.value, self.like(bits).value))

    def _call(self, name: str, *others: "Vector | float") -> "Vector":
        operands = [other if isinstance(other, Vector) else self.like(other) for other in others]
        values = [self.value, *(operand.value for operand in operands)]
        return Vector(self.builder, call(self.builder, f"llvm.{name}.v16f32", FLOATS, *values))

    def fma(self, factor: "Vector | float", addend: "Vector | float") -> "Vector":
        """Return this times `factor` plus `addend`, rounded once."""
        return self._call("fma", factor, addend)

    def maximum(self, other: "Vector | float") -> "Vector":
        """Return the larger number of each pair; this one if it is NaN."""
        other = other if isinstance(other, Vector) else self.like(other)
        larger = self.builder.fcmp_ordered(">", other.value, self.value)
        return other.where(larger, self)

    def minimum(self, other: "Vector | float") -> "Vector":
        """Return the smaller number of each pair; this one if it is NaN."""
        other = other if isinstance(other, Vector) else self.like(other)
        smaller = self.builder.fcmp_ordered("<", other.value, self.value)
        return other.where(smaller, self)

    def absolute(self) -> "Vector":
        """Return each number without its sign."""
        return self._call("fabs")

    def clamp(self, low: float, high: float) -> "Vector":
        """Return the nearest numbers from `low` to `high`; NaN stays."""
        return self.maximum(low).minimum(high)

    def where(self, chosen: Value, other: "Vector") -> "Vector":
        """Return these numbers where `chosen`, sixteen bits, says so, and elsewhere `other`'s."""
        return Vector(self.builder, self.builder.select(chosen, self.value, other.value))

    def round(self) -> "Vector":
        """Return the nearest whole number, the even one of two."""
        return self._call("rint")

    def bits(self) -> "Vector":
        """Return the 32 bits of each float as an integer."""
        return Vector(self.builder, self.builder.bitcast(self.value, INTS))

    def floats(self) -> "Vector":
        """Return the floats whose bits these integers are."""
        return Vector(self.builder, self.builder.bitcast(self.value, FLOATS))

    def to_ints(self) -> "Vector":
        """Return floats that are whole numbers as integers."""
        return Vector(self.builder, self.builder.fptosi(self.value, INTS))

    def to_floats(self) -> "Vector":
        """Return integers as floats."""
        return Vector(self.builder, self.builder.sitofp(self.value, FLOATS))

    def store(self, address: Value) -> None:
        """Write the sixteen numbers from `address` on."""
        self.builder.store(self.value, pointer(self.builder, address), align=4)

    def fold(self, combine: Callable[["Vector", "Vector"], "Vector"]) -> Value:
        """Return one number made of all: neighbours' halves combined, four times."""
        total = self
        for half in (8, 4, 2, 1):
            order = [(lane + half) % LANES for lane in range(LANES)]
            mask = ir.Constant(ir.VectorType(I32, LANES), order)
            turned = self.builder.shuffle_vector(total.value, total.value, mask)
            total = combine(total, Vector(self.builder, turned))
        return self.builder.extract_element(total.value, I32(0))


def exp(x: Vector) -> Vector:
    """Return e to the power of each number, within 2e-7 of it; below -87 and above 88 as there."""
    growth, power = _exp_parts(x)
    return (growth + 1.0) * power


def expm1(x: Vector) -> Vector:
    """Return e to the power of each number less 1, as exact for small numbers as for large."""
    growth, power = _exp_parts(x)
    return growth.fma(power, power - 1.0)


def _exp_parts(x: Vector) -> tuple[Vector, Vector]:
    """Return `g` and a power of two `p` with `e^x = (1 + g) p`.

    `g` is a polynomial on half a binade, in the form of Cephes' `expf`.
    """
    x = x.clamp(-87.0, 88.0)
    power = (x * 1.44269504088896341).round()
    rest = power.fma(-0.693359375, x)
    rest = power.fma(2.12194440e-4, rest)
    y = x.like(1.9875691500e-4)
    for coefficient in (
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ):
        y = y.fma(rest, coefficient)
    return (y * rest).fma(rest, rest), ((power.to_ints() + 127) << 23).floats()


def function(builder: Builder, name: str, kind: Value, *arguments: Value) -> Value:
    """Return a function that LLVM knows by `name` and that returns `kind`."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, arguments), name)


def call(builder: Builder, name: str, kind: Value, *operands: Value) -> Value:
    """Return what LLVM's function `name`, which returns `kind`, makes of the operands."""
    kinds = [operand.type for operand in operands]
    return builder.call(function(builder, name, kind, *kinds), operands)


def constant(builder: Builder, number: float, kind: Value = FLOATS) -> Vector:
    """Return a number sixteen times, as a vector of floats or integers."""
    return Vector(builder, ir.Constant(kind, [number] * LANES))


def spread(builder: Builder, number: Value) -> Vector:
    """Return a value of compiled code sixteen times."""
    kind = ir.VectorType(number.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, I32(0))
    zeros = ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
    return Vector(builder, builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros))


def load(builder: Builder, address: Value, kind: Value = FLOATS) -> Vector:
    """Return the vector of `kind` from `address` on."""
    place = pointer(builder, address)
    return Vector(builder, builder.load(place, typ=kind, align=1))


def load_one(builder: Builder, address: Value, kind: Value = F32) -> Value:
    """Return the number of `kind` at `address`."""
    return builder.load(pointer(builder, address), typ=kind, align=1)


def pointer(builder: Builder, address: Value) -> Value:
    """Return an address, a 64-bit integer, as a pointer."""
    return builder.inttoptr(address, POINTER)


@contextmanager
def vectors(builder: Builder, count: Value) -> Iterator[Value]:
    """Write a loop over `count` numbers, a multiple of sixteen; yields the bytes passed so far."""
    with cgutils.for_range(builder, builder.sdiv(count, I64(LANES))) as loop:
        yield builder.mul(loop.index, I64(BYTES))
