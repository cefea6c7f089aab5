"""References to named tuples in compiled code."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import TypingError

from wavenet.kernels.compiler import compiled
from wavenet.kernels.references import in_memory


class Inner(NamedTuple):
    values: Any
    scale: float


class Outer(NamedTuple):
    first: int
    is_set: bool
    same: Any
    inner: Inner
    last: Any


def outer(scale: float) -> Outer:
    values = np.arange(6.0).reshape(2, 3)
    return Outer(7, True, (3, 4), Inner(values, scale), np.float32(0.5))


def compute(known: Any) -> float:
    number = known.first * 1000.0 if known.is_set else -1.0
    return float(number + known.inner.values[1, 2] * known.inner.scale + known.same[1] + known.last)


@pytest.mark.parametrize("counts_references", [True, False])
def test_a_reference_has_the_attributes_of_its_named_tuple(counts_references: bool) -> None:
    inner = compiled(compute, str(counts_references), is_entry=False)

    def by_reference(known: Outer) -> float:
        return inner(in_memory(known))  # type: ignore[no-any-return]

    kernel = compiled(by_reference, counts_references=counts_references)
    for scale in (2.0, -3.5):
        assert kernel(outer(scale)) == compute(outer(scale))


def test_a_tuple_stays_whole_while_its_reference_is_used() -> None:
    def repeated(known: Outer) -> float:
        reference, total = in_memory(known), 0.0
        for _ in range(100):
            total += reference.inner.values[0, 1] + reference.inner.values.sum()
        return total

    kernel, known = compiled(repeated), outer(1.0)
    assert kernel(known) == kernel(known) == 1600.0
    np.testing.assert_array_equal(known.inner.values, np.arange(6.0).reshape(2, 3))


def test_an_unknown_attribute_is_refused() -> None:
    def unknown(known: Outer) -> Any:
        return in_memory(known).absent

    with pytest.raises(TypingError, match="absent"):
        compiled(unknown)(outer(1.0))
