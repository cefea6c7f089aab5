"""Arithmetic on vectors of sixteen numbers, as LLVM instructions.

Numba vectorizes loops only where LLVM's optimizer recognizes them. Here the vector instructions are
written explicitly, through a `Vector` with the operators of a number. LLVM maps it to the machine:
one register with AVX-512, two with AVX2, four with NEON.

Every operation follows IEEE 754, a product and a sum are fused only by `fma`, and nothing is
reordered: results depend neither on the surrounding code nor on the width of the registers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llvmlite import ir
from numba.core import cgutils

from wavenet.kernels.compiler import Builder, Value

LANES = 16
VECTOR_BYTES = 4 * LANES


class BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat16, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


I1, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
F32 = ir.FloatType()
FLOAT_VECTOR, INT_VECTOR = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)
LONG_VECTOR = ir.VectorType(I64, LANES)
DOUBLE_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
BFLOAT_VECTOR = ir.VectorType(BFloat(), LANES)
POINTER = ir.PointerType()


class Vector:
    """Sixteen numbers of one type, with the operators of a number.

    Args:
        builder: Receives the instructions.
        value: An LLVM vector of floats, doubles or integers.
    """

    def __init__(self, builder: Builder, value: Value) -> None:
        self.builder = builder
        self.value = value

    def _with(self, name: str, other: "Vector | float") -> "Vector":
        floats = self.value.type in (FLOAT_VECTOR, DOUBLE_VECTOR)
        method = getattr(self.builder, ("f" if floats else "") + name)
        return Vector(self.builder, method(self.value, self.like(other).value))

    def like(self, number: "Vector | float") -> "Vector":
        """Return a constant vector of the same type; a vector stays."""
        if isinstance(number, Vector):
            return number
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
        values = [self.value, *(self.like(other).value for other in others)]
        result = call_llvm(self.builder, f"llvm.{name}.v16f32", FLOAT_VECTOR, *values)
        return Vector(self.builder, result)

    def fma(self, factor: "Vector | float", addend: "Vector | float") -> "Vector":
        """Return this times `factor` plus `addend`, rounded once."""
        return self._call("fma", factor, addend)

    def maximum(self, other: "Vector | float") -> "Vector":
        """Return the larger number of each pair; this vector's if it is NaN."""
        other = self.like(other)
        larger = self.builder.fcmp_ordered(">", other.value, self.value)
        return other.select(larger, self)

    def minimum(self, other: "Vector | float") -> "Vector":
        """Return the smaller number of each pair; this vector's if it is NaN."""
        other = self.like(other)
        smaller = self.builder.fcmp_ordered("<", other.value, self.value)
        return other.select(smaller, self)

    def absolute(self) -> "Vector":
        """Return the absolute values."""
        return self._call("fabs")

    def clamp(self, low: float, high: float) -> "Vector":
        """Return the numbers clamped to `low` and `high`; NaN stays."""
        return self.maximum(low).minimum(high)

    def select(self, mask: Value, other: "Vector") -> "Vector":
        """Return these numbers where `mask` (sixteen bits) is set, elsewhere those of `other`."""
        return Vector(self.builder, self.builder.select(mask, self.value, other.value))

    def round(self) -> "Vector":
        """Return the numbers rounded to the nearest integer, ties to even."""
        return self._call("rint")

    def bits_as_ints(self) -> "Vector":
        """Reinterpret the bits of floats as integers."""
        return Vector(self.builder, self.builder.bitcast(self.value, INT_VECTOR))

    def bits_as_floats(self) -> "Vector":
        """Reinterpret integers as the bits of floats."""
        return Vector(self.builder, self.builder.bitcast(self.value, FLOAT_VECTOR))

    def to_ints(self) -> "Vector":
        """Convert floats without fraction to integers."""
        return Vector(self.builder, self.builder.fptosi(self.value, INT_VECTOR))

    def to_floats(self) -> "Vector":
        """Convert integers to floats."""
        return Vector(self.builder, self.builder.sitofp(self.value, FLOAT_VECTOR))

    def store(self, address: Value) -> None:
        """Store the sixteen numbers at `address`."""
        self.builder.store(self.value, pointer(self.builder, address), align=4)

    def reduce(self, combine: Callable[["Vector", "Vector"], "Vector"]) -> Value:
        """Return all numbers combined into one: halves are combined, four times."""
        total = self
        for half in (8, 4, 2, 1):
            order = [(lane + half) % LANES for lane in range(LANES)]
            mask = ir.Constant(ir.VectorType(I32, LANES), order)
            turned = self.builder.shuffle_vector(total.value, total.value, mask)
            total = combine(total, Vector(self.builder, turned))
        return self.builder.extract_element(total.value, I32(0))


class Variable:
    """A vector in memory, which a loop changes.

    Args:
        initial: Its value before the loop.
    """

    def __init__(self, initial: Vector) -> None:
        self.builder = initial.builder
        self.place = cgutils.alloca_once_value(self.builder, initial.value)

    def get(self) -> Vector:
        """Return its value."""
        return Vector(self.builder, self.builder.load(self.place))

    def set(self, value: Vector) -> None:
        """Change its value."""
        self.builder.store(value.value, self.place)


def exp(x: Vector) -> Vector:
    """Return e^x with a relative error of 2e-7; `x` is clamped to -87 and 88."""
    growth, power = _exp_parts(x)
    return (growth + 1.0) * power


def expm1(x: Vector) -> Vector:
    """Return e^x - 1, as exact for small numbers as for large."""
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
    return (y * rest).fma(rest, rest), ((power.to_ints() + 127) << 23).bits_as_floats()


def bfloat16_bits(x: Vector) -> Vector:
    """Return the bits of the nearest bfloat16, ties to even, in the low halves of integers."""
    bits = x.bits_as_ints()
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def call_llvm(builder: Builder, name: str, kind: Value, *operands: Value) -> Value:
    """Call LLVM's function `name`, which returns `kind`."""
    function_type = ir.FunctionType(kind, [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, operands)


def constant(builder: Builder, number: float, kind: Value = FLOAT_VECTOR) -> Vector:
    """Return a constant vector of floats or integers."""
    return Vector(builder, ir.Constant(kind, [number] * LANES))


def broadcast(builder: Builder, number: Value) -> Vector:
    """Return a vector that repeats a value of compiled code."""
    kind = ir.VectorType(number.type, LANES)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, I32(0))
    zeros = ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
    return Vector(builder, builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros))


def load(builder: Builder, address: Value, kind: Value = FLOAT_VECTOR) -> Vector:
    """Return the vector of `kind` at `address`."""
    place = pointer(builder, address)
    return Vector(builder, builder.load(place, typ=kind, align=1))


def load_scalar(builder: Builder, address: Value, kind: Value = F32) -> Value:
    """Return the number of `kind` at `address`."""
    return builder.load(pointer(builder, address), typ=kind, align=1)


def pointer(builder: Builder, address: Value) -> Value:
    """Return an address, a 64-bit integer, as a pointer."""
    return builder.inttoptr(address, POINTER)


@contextmanager
def vector_offsets(builder: Builder, count: Value) -> Iterator[Value]:
    """Write a loop over `count` floats, a multiple of sixteen; yields the offset in bytes."""
    with for_range(builder, builder.sdiv(count, I64(LANES))) as index:
        yield builder.mul(index, I64(VECTOR_BYTES))


@contextmanager
def for_range(builder: Builder, count: Value) -> Iterator[Value]:
    """Write a loop; yields its index, from 0 to `count - 1`."""
    with cgutils.for_range(builder, count) as loop:
        yield loop.index
