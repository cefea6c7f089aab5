"""Numba's types of named tuples, from the annotations of their fields.

An array's annotation holds its dimensions: `Annotated[NDArray[np.int32], 2]`. So compiled code has
its signature before there are arguments.
"""

from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
from numba import from_dtype, types

_NUMBERS = {int: types.int64, float: types.float64, bool: types.boolean, np.float32: types.float32}


def numba_type(annotation: Any) -> Any:
    """Return the Numba type of what an annotation describes.

    Args:
        annotation: A number, an array in C order with its dimensions, or a named tuple of these.
    """
    if annotation in _NUMBERS:
        return _NUMBERS[annotation]
    if get_origin(annotation) is Annotated:
        array, dimensions = get_args(annotation)
        (dtype,) = get_args(get_args(array)[1])
        return types.Array(from_dtype(np.dtype(dtype)), dimensions, "C")
    hints = get_type_hints(annotation, include_extras=True)
    return types.BaseTuple.from_types(tuple(map(numba_type, hints.values())), annotation)
