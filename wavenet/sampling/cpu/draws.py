"""The compiled draws: a class from its logits, or a 16-bit code from a mixture of densities.

`draw_class` is the counterpart of `Categorical.sample`, by inversion of the cumulative
distribution. Top-k and top-p do not sort: floats are mapped to integers of the same order, and the
threshold is found bit by bit, each time counting or weighing all classes at once.

`draw_from_mixture` is the counterpart of `Mixture.sample`: a component by its weight, then the
quantile of its density. Scalars in float64, since one draw takes a small share of a sample's time.
"""

import math

import numpy as np
from numba import types

from wavenet.distributions.mixture import LEVELS, MIN_UNIFORM
from wavenet.kernels.compiler import (
    ADDRESS,
    Address,
    Builder,
    Value,
    compiled,
    inlined,
    llvm_function,
)
from wavenet.kernels.vectors import (
    I32,
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
    load_scalar,
    pointer,
    vector_offsets,
)

NOT_FINITE = -1  # returned instead of a class if a logit is NaN or the largest is infinite
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

# The normal quantile to 1 part in 10^16: Wichura 1988, algorithm AS 241 (PPND16). Numerators and
# denominators of three rational functions, highest power first.
CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853,
     45921.953931549871457, 13731.693765509461125, 1971.5909503065514427,
     133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
SIDE = (
    (7.7454501427834140764e-4, 2.27238449892691845833e-2, 0.24178072517745061177,
     1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055,
     4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2,
     0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494,
     2.05319162663775882187, 1.0),
)  # fmt: skip
TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 0.29656057182850489123, 1.7848265399172913358,
     5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.868691311456132591e-4, 1.48753612908506148525e-2, 0.13692988092273580531,
     0.59983220655588793769, 1.0),
)  # fmt: skip


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


@llvm_function(types.float32, ADDRESS)
def float_at(builder: Builder, address: Value) -> Value:
    """Return the float at an address."""
    return load_scalar(builder, address)


@llvm_function(types.int32, ADDRESS)
def int_at(builder: Builder, address: Value) -> Value:
    """Return the 32-bit integer at an address."""
    return load_scalar(builder, address, I32)


@llvm_function(types.void, ADDRESS)
def store_zero(builder: Builder, address: Value) -> None:
    """Write a 32-bit 0."""
    builder.store(I32(0), pointer(builder, address), align=4)


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
            equals = min(equals, num_equal) if found == least else num_equal
            least = found
    for index in range(count):
        key = int_at(keys + 4 * index)
        equals -= key == least
        if key < least or (key == least and equals < 0):
            store_zero(weights + 4 * index)


@inlined
def search(weights: Address, count: int, noise: float) -> int:
    """Return the first class at which the cumulative weight exceeds a share of `noise`."""
    total = 0.0  # float64: the sum of many small numbers decides
    for vector in range(count // LANES):
        total += np.float64(vector_sum(weights + VECTOR_BYTES * vector))
    threshold, cumulative, last = np.float64(noise) * total, 0.0, 0
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


@compiled
def draw_class(
    logits: Address,
    weights: Address,
    keys: Address,
    count: int,
    noise: float,
    temperature: float,
    top_k: int,
    top_p: float,
) -> int:
    """Return a class of `count` (padding included), or `NOT_FINITE`.

    `weights` and `keys` are scratch memory of the size of the logits, `noise` is a uniform of
    [0, 1). Temperature 0 takes the largest logit; `top_k` 0 and `top_p` 1 keep all classes.
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
    if top_k > 0 or top_p < 1:
        truncate(weights, logits, keys, count, top_k, top_p)
    found: int = search(weights, count, noise)
    return found


@inlined
def rational(polynomials: tuple[tuple[float, ...], tuple[float, ...]], x: float) -> float:
    """Return the ratio of two polynomials at `x`."""
    numerator, denominator = 0.0, 0.0
    for index in range(8):
        numerator = numerator * x + polynomials[0][index]
        denominator = denominator * x + polynomials[1][index]
    return numerator / denominator


@compiled
def normal_quantile(uniform: float) -> float:
    """Return the quantile of the standard normal distribution."""
    q = uniform - 0.5
    if abs(q) <= 0.425:
        centre: float = q * rational(CENTRE, 0.180625 - q * q)
        return centre
    r = math.sqrt(-math.log(min(uniform, 1 - uniform)))
    size: float = rational(SIDE, r - 1.6) if r <= 5 else rational(TAIL, r - 5)
    return size if q > 0 else -size


@compiled
def draw_from_mixture(
    params: Address,
    components: int,
    gaussian: bool,
    min_log_scale: float,
    choice: float,
    noise: float,
    temperature: float,
) -> int:
    """Return a code, 0 to 65,535, or `NOT_FINITE` if a parameter is not finite.

    Parameters are logits (none for one component), means, log-scales. Of the uniforms of [0, 1),
    `choice` chooses the component and `noise` the sample. Temperature 0 takes the heaviest
    component's mean.
    """
    means = params + 4 * components if components > 1 else params
    scales = means + 4 * components
    count = 3 * components if components > 1 else 2
    for index in range(count):
        if not np.isfinite(float_at(params + 4 * index)):
            return NOT_FINITE
    chosen = 0
    if components > 1:
        chosen = heaviest(params, components)
        if temperature > 0:
            peak = np.float64(float_at(params + 4 * chosen))
            total = 0.0
            for index in range(components):
                total += math.exp((np.float64(float_at(params + 4 * index)) - peak) / temperature)
            threshold, cumulative, chosen = np.float64(choice) * total, 0.0, components - 1
            for index in range(components):
                cumulative += math.exp(
                    (np.float64(float_at(params + 4 * index)) - peak) / temperature
                )
                if cumulative > threshold:
                    chosen = index
                    break
    value = np.float64(float_at(means + 4 * chosen))
    if temperature > 0:
        uniform = np.float64(noise) * (1 - 2 * MIN_UNIFORM) + MIN_UNIFORM
        if gaussian:
            quantile = normal_quantile(uniform)
        else:
            quantile = math.log(uniform) - math.log1p(-uniform)
        scale = math.exp(max(np.float64(float_at(scales + 4 * chosen)), min_log_scale))
        value += scale * temperature * quantile
    half = LEVELS // 2
    return int(min(max(np.rint(value * half), -half), half - 1)) + half


@inlined
def heaviest(logits: Address, components: int) -> int:
    """Return the component with the largest logit; the first of equal ones."""
    best = 0
    for index in range(1, components):
        if float_at(logits + 4 * index) > float_at(logits + 4 * best):
            best = index
    return best
