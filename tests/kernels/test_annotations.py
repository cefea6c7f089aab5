"""Compiled code has the types of its arguments before there are any."""

from typing import Annotated, NamedTuple

import numpy as np
import pytest
from numba import typeof
from numpy.typing import NDArray

from tests.architectures import SMALL
from wavenet import WaveNet, make_sampler
from wavenet.kernels.annotations import numba_type
from wavenet.sampling.cpu import CpuSampler


class Point(NamedTuple):
    x: float
    y: float


class Picture(NamedTuple):
    pixels: Annotated[NDArray[np.uint8], 3]
    scale: np.float32
    width: int
    is_grey: bool
    centre: Point


@pytest.mark.parametrize(
    "value",
    [
        1,
        1.5,
        True,
        np.float32(1.5),
        Point(0.0, 1.0),
        Picture(np.zeros((2, 3, 1), np.uint8), np.float32(2), 3, True, Point(0.0, 1.0)),
    ],
)
def test_an_annotation_has_the_type_that_numba_finds(value: object) -> None:
    assert numba_type(type(value)) == typeof(value)


def test_an_array_of_another_order_has_another_type() -> None:
    assert numba_type(Annotated[NDArray[np.int32], 2]) == typeof(np.zeros((2, 3), np.int32))
    assert numba_type(Annotated[NDArray[np.int32], 2]) != typeof(np.zeros((2, 3), np.int32).T)


def test_the_kernel_that_was_compiled_ahead_is_the_one_that_is_called() -> None:
    sampler = make_sampler(WaveNet(SMALL), "cpu")
    assert isinstance(sampler, CpuSampler)
    before = list(sampler.kernel.signatures)

    sampler.generate(4, seed=0)

    assert len(before) == 1
    assert sampler.kernel.signatures == before
