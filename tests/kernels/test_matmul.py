import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.architectures import num_examples
from wavenet.kernels.matmul import (
    MAX_SUMMED_INPUTS,
    aligned,
    decode_rows,
    encode_rows,
    make_product,
    pack,
    row_bytes,
    to_bfloat16,
)
from wavenet.sampling import WEIGHT_DTYPES

Array = NDArray[np.float32]


def product(matrix: Array, x: Array, y: Array, weight_dtype: str) -> Array:
    """Return `y` plus the product of `matrix` with each row of `x`."""
    weights, scales = map(aligned, pack(matrix, weight_dtype))
    out = y.copy()
    rows = np.ascontiguousarray(encode_rows(x, weight_dtype))
    outputs, inputs = matrix.shape
    make_product(weight_dtype)(
        weights.ctypes.data,
        scales.ctypes.data,
        0,
        outputs,
        inputs,
        rows.ctypes.data,
        rows.strides[0],
        out.ctypes.data,
        out.strides[0],
        len(x),
    )
    return out


def rounded(matrix: Array, weight_dtype: str) -> Array:
    """Return the weights rounded to a weight dtype."""
    if weight_dtype == "int8":
        scales = np.abs(matrix).max(axis=1, keepdims=True) / np.float32(127)
        steps: Array = np.rint(matrix / scales) * scales
        return steps
    kind = torch.bfloat16 if weight_dtype == "bfloat16" else torch.float32
    values: Array = torch.from_numpy(matrix).to(kind).float().numpy()
    return values


def numbers(*shape: int) -> Array:
    values: Array = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
    return values


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES)
@settings(max_examples=num_examples(30, 60))
@given(
    outputs=st.integers(1, 12).map(lambda count: 16 * count),
    inputs=st.integers(1, 9).map(lambda count: 16 * count),
    rows=st.integers(1, 15),
)
def test_product_equals_numpy_on_rounded_numbers(
    weight_dtype: str, outputs: int, inputs: int, rows: int
) -> None:
    matrix, x, y = numbers(outputs, inputs), numbers(rows, inputs), numbers(rows, outputs)

    found = product(matrix, x, y, weight_dtype)

    seen = decode_rows(encode_rows(x, weight_dtype), inputs, weight_dtype).astype(np.float64)
    weights = rounded(matrix, weight_dtype).astype(np.float64)
    error = np.abs(found - (y + seen @ weights.T))
    assert (error <= 1e-6 * (1 + np.abs(seen) @ np.abs(weights.T))).all()


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES)
def test_row_does_not_depend_on_the_other_rows(weight_dtype: str) -> None:
    for outputs, inputs in itertools.product([16, 48, 128, 176], [16, 80, 256]):
        matrix, x, y = numbers(outputs, inputs), numbers(13, inputs), numbers(13, outputs)

        together = product(matrix, x, y, weight_dtype)

        for row in range(13):
            alone = product(matrix, x[row : row + 1], y[row : row + 1], weight_dtype)
            assert np.array_equal(alone[0], together[row])


def test_int8_sums_of_the_largest_numbers_do_not_overflow() -> None:
    matrix, x = (
        np.full((16, 2 * MAX_SUMMED_INPUTS), 3.0, np.float32),
        np.full((1, 2 * MAX_SUMMED_INPUTS), 7.99, np.float32),
    )

    found = product(matrix, x, np.zeros((1, 16), np.float32), "int8")

    np.testing.assert_allclose(found, 2 * MAX_SUMMED_INPUTS * 3 * 7.99, rtol=1e-3)


@pytest.mark.parametrize("weight_dtype", WEIGHT_DTYPES)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=16, max_size=16),
    st.floats(2.0**-40, 2.0**10, width=32),
)
def test_encoded_row_decodes_to_the_same_row(
    weight_dtype: str, values: list[float], scale: float
) -> None:
    row = (np.array([values], np.float32) * np.float32(scale)).astype(np.float32)

    encoded = encode_rows(row, weight_dtype)

    decoded = decode_rows(encoded, 16, weight_dtype)
    assert encoded.shape == (1, row_bytes(16, weight_dtype))
    assert np.array_equal(encode_rows(decoded, weight_dtype), encoded)
    worst = {"float32": 0.0, "bfloat16": 2.0**-8, "int8": 2.0**-12}[weight_dtype]
    assert (np.abs(decoded - row) <= worst * np.abs(row).max() + 2.0**-72).all()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_bfloat16_rounding_equals_torch(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)

    found = (to_bfloat16(values).astype(np.uint32) << 16).view(np.float32)

    assert np.array_equal(found, torch.from_numpy(values).bfloat16().float().numpy())
