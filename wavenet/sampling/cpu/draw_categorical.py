"""The draw of a class from its logits: the inverse of the cumulative distribution.

What `Categorical.sample` does, on the kernel's own terms. Top-k and top-p sort nothing: floats are
turned into integers of the same order, and the least one that stays is found bit by bit, each time
counting or weighing all classes at once.
"""

import numpy as np
from numba.core import cgutils, types

from wavenet.kernels.compiler import (
    ADDRESS,
    Address,
    Builder,
    Value,
    compiled,
    emitted,
    inlined,
)
from wavenet.kernels.vectors import (
    BYTES,
    I32,
    I64,
    INTS,
    LANES,
    Vector,
    constant,
    exp,
    load,
    load_one,
    pointer,
    spread,
    vectors,
)

FAULT = -1  # drawn where a logit is NaN or the largest is infinite
LEAST, MOST = -(2**31), 2**31 - 1


@emitted(types.float32, ADDRESS, types.int64)
def largest(builder: Builder, x: Value, count: Value) -> Value:
    """Return the largest of the floats, or NaN if one is NaN."""
    zero, nan = constant(builder, 0.0), constant(builder, float("nan"))
    peak = cgutils.alloca_once_value(builder, constant(builder, float("-inf")).value)
    fault = cgutils.alloca_once_value(builder, zero.value)
    with vectors(builder, count) as at:
        here = load(builder, builder.add(x, at))
        builder.store(here.maximum(Vector(builder, builder.load(peak))).value, peak)
        bad = builder.fcmp_unordered("uno", here.value, here.value)
        so_far = Vector(builder, builder.load(fault))
        builder.store((so_far + nan.where(bad, zero)).value, fault)
    most = Vector(builder, builder.load(peak)).fold(Vector.maximum)
    return builder.fadd(most, Vector(builder, builder.load(fault)).fold(Vector.__add__))


@emitted(types.void, ADDRESS, ADDRESS, types.int64, types.float32, types.float32)
def weigh(builder: Builder, y: Value, x: Value, count: Value, peak: Value, by: Value) -> None:
    """Make y = e^((x - peak) * by), 0 where that is less than 1e-38."""
    top, factor, zero = spread(builder, peak), spread(builder, by), constant(builder, 0.0)
    with vectors(builder, count) as at:
        power = (load(builder, builder.add(x, at)) - top) * factor
        there = builder.fcmp_ordered(">", power.value, power.like(-87.0).value)
        exp(power).where(there, zero).store(builder.add(y, at))


@emitted(types.void, ADDRESS, ADDRESS, types.int64, types.float32)
def guide(
    builder: Builder, own: Value, unknown: Value, count: Value, guidance_scale: Value
) -> None:
    """Make own = unknown + guidance * (own - unknown); equal ones, infinite too, stay."""
    by = spread(builder, guidance_scale)
    with vectors(builder, count) as at:
        one, other = load(builder, builder.add(own, at)), load(builder, builder.add(unknown, at))
        alike = builder.fcmp_ordered("==", one.value, other.value)
        one.where(alike, other + by * (one - other)).store(builder.add(own, at))


@emitted(types.float32, ADDRESS)
def sum_of_vector(builder: Builder, x: Value) -> Value:
    """Return the sum of sixteen floats."""
    return load(builder, x).fold(Vector.__add__)


@emitted(types.void, ADDRESS, ADDRESS, types.int64)
def order_keys(builder: Builder, keys: Value, x: Value, count: Value) -> None:
    """Write integers that are in the order of the floats."""
    with vectors(builder, count) as at:
        bits = (load(builder, builder.add(x, at)) + 0.0).bits()  # -0 is 0
        sign = builder.ashr(bits.value, bits.like(31).value)
        flip = Vector(builder, sign) & 0x7FFFFFFF
        Vector(builder, builder.xor(bits.value, flip.value)).store(builder.add(keys, at))


@emitted(types.int64, ADDRESS, types.int64, types.int32)
def count_from(builder: Builder, keys: Value, count: Value, least: Value) -> Value:
    """Return how many keys are `least` or more."""
    cell = cgutils.alloca_once_value(builder, constant(builder, 0, INTS).value)
    with vectors(builder, count) as at:
        key = load(builder, builder.add(keys, at), INTS)
        stays = builder.icmp_signed(">=", key.value, spread(builder, least).value)
        builder.store(builder.add(builder.load(cell), builder.zext(stays, INTS)), cell)
    return builder.sext(Vector(builder, builder.load(cell)).fold(Vector.__add__), I64)


@emitted(types.float32, ADDRESS, ADDRESS, types.int64, types.int32)
def weight_from(builder: Builder, weights: Value, keys: Value, count: Value, least: Value) -> Value:
    """Return the sum of the weights of keys that are `least` or more."""
    zero = constant(builder, 0.0)
    cell = cgutils.alloca_once_value(builder, zero.value)
    with vectors(builder, count) as at:
        key = load(builder, builder.add(keys, at), INTS)
        stays = builder.icmp_signed(">=", key.value, spread(builder, least).value)
        weight = load(builder, builder.add(weights, at)).where(stays, zero)
        builder.store((Vector(builder, builder.load(cell)) + weight).value, cell)
    return Vector(builder, builder.load(cell)).fold(Vector.__add__)


@emitted(types.float32, ADDRESS)
def float_at(builder: Builder, address: Value) -> Value:
    """Return a float."""
    return load_one(builder, address)


@emitted(types.int32, ADDRESS)
def int_at(builder: Builder, address: Value) -> Value:
    """Return a 32-bit integer."""
    return load_one(builder, address, I32)


@emitted(types.void, ADDRESS)
def put_zero(builder: Builder, address: Value) -> None:
    """Write a 0 of 32 bits."""
    builder.store(I32(0), pointer(builder, address), align=4)


@inlined
def least_key(weights: Address, keys: Address, count: int, number: int, share: float) -> int:
    """Return the largest key that `number` classes reach, or that a weight of `share` reaches.

    The second counts where `number` is 0.
    """
    low, high = LEAST, MOST
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
    """Put 0 for the classes that top-k and top-p leave out; of equal ones the first stay."""
    order_keys(keys, logits, count)
    least, equals = LEAST, count
    if 0 < top_k < count:
        least = least_key(weights, keys, count, top_k, 0.0)
        equals = top_k - count_from(keys, count, np.int32(least + 1))
    if top_p < 1:
        share = top_p * np.float64(weight_from(weights, keys, count, np.int32(LEAST)))
        found = least_key(weights, keys, count, 0, share)
        if found >= least:
            above = np.float64(weight_from(weights, keys, count, np.int32(found + 1)))
            wanted = 0
            for index in range(count):
                if int_at(keys + 4 * index) == found and above < share:
                    above += np.float64(float_at(weights + 4 * index))
                    wanted += 1
            equals = min(equals, wanted) if found == least else wanted
            least = found
    for index in range(count):
        key = int_at(keys + 4 * index)
        equals -= key == least
        if key < least or (key == least and equals < 0):
            put_zero(weights + 4 * index)


@inlined
def search(weights: Address, count: int, noise: float) -> int:
    """Return the first class that the sum of the weights passes a share of `noise` with."""
    total = 0.0  # float64: a sum of many small numbers decides
    for block in range(count // LANES):
        total += np.float64(sum_of_vector(weights + BYTES * block))
    threshold, passed, last = np.float64(noise) * total, 0.0, 0
    for block in range(count // LANES):
        here = np.float64(sum_of_vector(weights + BYTES * block))
        if passed + here > threshold:
            within = passed
            for index in range(block * LANES, (block + 1) * LANES):
                within += np.float64(float_at(weights + 4 * index))
                if within > threshold:
                    return index
        if here > 0:
            last = block
        passed += here
    index = (last + 1) * LANES - 1  # rounding passed by the end: the last class that has a weight
    while index > 0 and float_at(weights + 4 * index) == 0:
        index -= 1
    return index


@compiled
def draw(
    logits: Address,
    weights: Address,
    keys: Address,
    count: int,
    noise: float,
    temperature: float,
    top_k: int,
    top_p: float,
) -> int:
    """Return a class, or `FAULT`.

    Args:
        logits: Address of the logits.
        weights: Address of as much room.
        keys: The same again.
        count: Classes, padding included.
        noise: Uniform of [0, 1).
        temperature: 0 takes the largest logit.
        top_k: Classes that stay; 0 for all.
        top_p: Share of the probability that stays; 1 for all.
    """
    peak = largest(logits, count)
    if not np.isfinite(peak):
        return FAULT
    if temperature == 0:
        index = 0
        while float_at(logits + 4 * index) != peak:
            index += 1
        return index
    weigh(weights, logits, count, peak, np.float32(min(1 / temperature, 1e37)))
    if top_k > 0 or top_p < 1:
        truncate(weights, logits, keys, count, top_k, top_p)
    found: int = search(weights, count, noise)
    return found
