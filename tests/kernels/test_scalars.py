"""Single numbers in compiled code."""

import math
from typing import Any

import numpy as np
import pytest

from wavenet.kernels.compiler import compiled
from wavenet.kernels.scalars import at_least, clamp, int_max, int_min, nearest, rational, to_int

ratio = rational((2.0, -3.0, 0.5), (1.0, 4.0))


@compiled
def bounds(number: float, low: float, high: float) -> Any:
    return at_least(number, low), clamp(number, low, high)


@compiled
def integers(a: int, b: int) -> Any:
    return int_min(a, b), int_max(a, b)


@compiled
def whole(number: float) -> Any:
    return nearest(number), to_int(nearest(number))


@compiled
def polynomials(x: float) -> Any:
    return ratio(x)


@pytest.mark.parametrize("number", [-math.inf, -2.0, -0.5, 0.0, 0.5, 2.0, math.inf])
def test_bounds(number: float) -> None:
    assert bounds(number, -1.0, 1.0) == (max(number, -1.0), min(max(number, -1.0), 1.0))


def test_nan_stays() -> None:
    assert all(map(math.isnan, bounds(math.nan, -1.0, 1.0)))


@pytest.mark.parametrize(("a", "b"), [(-3, 2), (2, -3), (5, 5)])
def test_smaller_and_larger_integer(a: int, b: int) -> None:
    assert integers(a, b) == (min(a, b), max(a, b))


@pytest.mark.parametrize("number", [-2.5, -1.5, -0.49, 0.5, 1.5, 1.51, 32767.5])
def test_ties_go_to_even_numbers(number: float) -> None:
    assert whole(number) == (np.rint(number), round(number))


def test_a_ratio_of_polynomials_is_rounded_as_in_python() -> None:
    x = 0.3
    assert polynomials(x) == ((2.0 * x - 3.0) * x + 0.5) / (x + 4.0)
