"""The compiled draw of a class from its logits, the counterpart of `Categorical.draw`.

It inverts the cumulative distribution. Top-k and top-p do not sort: floats are mapped to integers
of the same order, and the threshold is found bit by bit, each time counting or weighing all classes
at once.
"""

import numpy as np
from numba import types

from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.compiler import (
    ADDRESS,
    Address,
    Builder,
    Value,
    inlined,
    llvm_function,
)
from wavenet.kernels.scalars import float_at, int_at, int_min, store_zero
from wavenet.kernels.sources import SAMPLER_SOURCES
from wavenet.kernels.vectors import (
    I64,
    INT_VECTOR,
    LANES,
    VECTOR_BYTES,
    Variable,
    Vector,
    broadcast,
    constant,
    exp,
    load,
    vector_offsets,
)

NOT_FINITE = -1  # returned instead of a class if a logit is NaN or the largest is infinite
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@llvm_function(types.float32, ADDRESS, types.int64)
def largest(builder: Builder, x: Value, count: Value) -> Value:
    """Return the largest of the floats, or NaN if one is NaN."""
    zero, nan = constant(builder, 0.0), constant(builder, float("nan"))
    peaks, nans = Variable(constant(builder, float("-inf"))), Variable(zero)
    with vector_offsets(builder, count) as offset:
        values = load(builder, builder.add(x, offset))
        peaks.set(values.maximum(peaks.get()))
        is_nan = builder.fcmp_unordered("uno", values.value, values.value)
        nans.set(nans.get() + nan.select(is_nan, zero))
    peak = peaks.get().reduce(Vector.maximum)
    return builder.fadd(peak, nans.get().reduce(Vector.__add__))


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64, types.float32, types.float32)
def exponentiate(
    builder: Builder, y: Value, x: Value, count: Value, peak: Value, factor: Value
) -> None:
    """Compute y = e^((x - peak) * factor), 0 where that is below 1e-38."""
    peaks, factors = broadcast(builder, peak), broadcast(builder, factor)
    zero = constant(builder, 0.0)
    with vector_offsets(builder, count) as offset:
        power = (load(builder, builder.add(x, offset)) - peaks) * factors
        in_range = builder.fcmp_ordered(">", power.value, power.like(-87.0).value)
        exp(power).select(in_range, zero).store(builder.add(y, offset))


@llvm_function(types.void, ADDRESS, types.int64, types.float32)
def subtract_floor(builder: Builder, weights: Value, count: Value, floor: Value) -> None:
    """Subtract a number from all weights, down to 0."""
    floors = broadcast(builder, floor)
    with vector_offsets(builder, count) as offset:
        place = builder.add(weights, offset)
        (load(builder, place) - floors).maximum(0.0).store(place)


@llvm_function(types.float32, ADDRESS)
def vector_sum(builder: Builder, x: Value) -> Value:
    """Return the sum of sixteen floats."""
    return load(builder, x).reduce(Vector.__add__)


@llvm_function(types.void, ADDRESS, ADDRESS, types.int64)
def order_keys(builder: Builder, keys: Value, x: Value, count: Value) -> None:
    """Write integers in the same order as the floats."""
    with vector_offsets(builder, count) as offset:
        bits = (load(builder, builder.add(x, offset)) + 0.0).bits_as_ints()  # -0 becomes 0
        sign = builder.ashr(bits.value, bits.like(31).value)
        flip = Vector(builder, sign) & 0x7FFFFFFF
        Vector(builder, builder.xor(bits.value, flip.value)).store(builder.add(keys, offset))


@llvm_function(types.int64, ADDRESS, types.int64, types.int32)
def count_from(builder: Builder, keys: Value, count: Value, threshold: Value) -> Value:
    """Return how many keys are `threshold` or more."""
    counts, least = Variable(constant(builder, 0, INT_VECTOR)), broadcast(builder, threshold)
    with vector_offsets(builder, count) as offset:
        key = load(builder, builder.add(keys, offset), INT_VECTOR)
        kept = builder.icmp_signed(">=", key.value, least.value)
        counts.set(counts.get() + Vector(builder, builder.zext(kept, INT_VECTOR)))
    return builder.sext(counts.get().reduce(Vector.__add__), I64)


@llvm_function(types.float32, ADDRESS, ADDRESS, types.int64, types.int32)
def weight_from(
    builder: Builder, weights: Value, keys: Value, count: Value, threshold: Value
) -> Value:
    """Return the sum of the weights whose keys are `threshold` or more."""
    zero, least = constant(builder, 0.0), broadcast(builder, threshold)
    total = Variable(zero)
    with vector_offsets(builder, count) as offset:
        key = load(builder, builder.add(keys, offset), INT_VECTOR)
        kept = builder.icmp_signed(">=", key.value, least.value)
        total.set(load(builder, builder.add(weights, offset)).select(kept, zero) + total.get())
    return total.get().reduce(Vector.__add__)


@inlined
def least_key(weights: Address, keys: Address, count: int, number: int, share: float) -> int:
    """Return the largest key that `number` classes reach.

    If `number` is 0: the largest key that classes with a total weight of `share` reach.
    """
    low, high = INT32_MIN, INT32_MAX
    while low < high:
        middle = (low + high + 1) >> 1
        if number > 0:
            enough = count_from(keys, count, np.int32(middle)) >= number
        else:
            enough = np.float64(weight_from(weights, keys, count, np.int32(middle))) >= share
        if enough:
            low = middle
        else:
            high = middle - 1
    return low


@inlined
def truncate(
    weights: Address, logits: Address, keys: Address, count: int, top_k: int, top_p: float
) -> None:
    """Set the weights outside of top-k and top-p to 0; of equal classes the first are kept."""
    order_keys(keys, logits, count)
    least, equals = INT32_MIN, count
    if 0 < top_k < count:
        least = least_key(weights, keys, count, top_k, 0.0)
        equals = top_k - count_from(keys, count, np.int32(least + 1))
    if top_p < 1:
        share = top_p * np.float64(weight_from(weights, keys, count, np.int32(INT32_MIN)))
        found = least_key(weights, keys, count, 0, share)
        if found >= least:
            above = np.float64(weight_from(weights, keys, count, np.int32(found + 1)))
            num_equal = 0
            for index in range(count):
                if int_at(keys + 4 * index) == found and above < share:
                    above += np.float64(float_at(weights + 4 * index))
                    num_equal += 1
            equals = int_min(equals, num_equal) if found == least else num_equal
            least = found
    for index in range(count):
        key = int_at(keys + 4 * index)
        equals -= key == least
        if key < least or (key == least and equals < 0):
            store_zero(weights + 4 * index)


@inlined
def total_of(weights: Address, count: int) -> float:
    """Return the sum of all weights, in float64: a sum of many small numbers decides."""
    total = 0.0
    for vector in range(count // LANES):
        total += np.float64(vector_sum(weights + VECTOR_BYTES * vector))
    return total


@inlined
def search(weights: Address, count: int, noise: float) -> int:
    """Return the first class at which the cumulative weight exceeds a share of `noise`."""
    threshold, cumulative, last = np.float64(noise) * total_of(weights, count), 0.0, 0
    for vector in range(count // LANES):
        vector_weight = np.float64(vector_sum(weights + VECTOR_BYTES * vector))
        if cumulative + vector_weight > threshold:
            within = cumulative
            for index in range(vector * LANES, (vector + 1) * LANES):
                within += np.float64(float_at(weights + 4 * index))
                if within > threshold:
                    return index
        if vector_weight > 0:
            last = vector
        cumulative += vector_weight
    index = (last + 1) * LANES - 1  # past the end by rounding: the last class with a weight
    while index > 0 and float_at(weights + 4 * index) == 0:
        index -= 1
    return index


def _draw_class(
    logits: Address,
    weights: Address,
    keys: Address,
    count: int,
    noise: float,
    temperature: float,
    top_k: int,
    top_p: float,
    probability_floor: float,
) -> int:
    """Return a class of `count` (padding included), or `NOT_FINITE`.

    `weights` and `keys` are scratch memory of the size of the logits, `noise` is a uniform of
    [0, 1). Temperature 0 takes the largest logit; `top_k` 0, `top_p` 1 and a floor of 0 keep all.
    """
    peak = largest(logits, count)
    if not np.isfinite(peak):
        return NOT_FINITE
    if temperature == 0:
        index = 0
        while float_at(logits + 4 * index) != peak:
            index += 1
        return index
    exponentiate(weights, logits, count, peak, np.float32(min(1 / temperature, 1e37)))
    if probability_floor > 0:
        subtract_floor(weights, count, np.float32(probability_floor * total_of(weights, count)))
    if top_k > 0 or top_p < 1:
        truncate(weights, logits, keys, count, top_k, top_p)
    found: int = search(weights, count, noise)
    return found


DRAW_CLASS = types.int64(
    *[types.int64] * 4, types.float64, types.float64, types.int64, types.float64, types.float64
)
draw_class = FunctionByAddress(_draw_class, DRAW_CLASS, "draw-class", SAMPLER_SOURCES)
