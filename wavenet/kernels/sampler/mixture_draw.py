"""The compiled draw of a 16-bit code from a mixture, the counterpart of `Mixture.draw`.

A component by its weight, then the quantile of its density. Scalars in float64, since one draw
takes a small share of a sample's time.
"""

import math

import numpy as np
from numba import types

from wavenet.kernels.by_address import FunctionByAddress
from wavenet.kernels.compiler import Address, compiled, inlined
from wavenet.kernels.sampler.class_draw import NOT_FINITE
from wavenet.kernels.scalars import at_least, clamp, float_at, nearest, rational, to_int
from wavenet.kernels.sources import SAMPLER_SOURCES
from wavenet.utils.shared_constants import LEVELS, MIN_UNIFORM

# The normal quantile to 1 part in 10^16: Wichura 1988, algorithm AS 241 (PPND16). Numerators and
# denominators of three rational functions, highest power first.
centre = rational(
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853,
     45921.953931549871457, 13731.693765509461125, 1971.5909503065514427,
     133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
side = rational(
    (7.7454501427834140764e-4, 2.27238449892691845833e-2, 0.24178072517745061177,
     1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055,
     4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2,
     0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494,
     2.05319162663775882187, 1.0),
)  # fmt: skip
tail = rational(
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 0.29656057182850489123, 1.7848265399172913358,
     5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.868691311456132591e-4, 1.48753612908506148525e-2, 0.13692988092273580531,
     0.59983220655588793769, 1.0),
)  # fmt: skip


@compiled
def normal_quantile(uniform: float) -> float:
    """Return the quantile of the standard normal distribution."""
    q = uniform - 0.5
    if abs(q) <= 0.425:
        middle: float = q * centre(0.180625 - q * q)
        return middle
    r = math.sqrt(-math.log(uniform if q < 0 else 1 - uniform))
    size: float = side(r - 1.6) if r <= 5 else tail(r - 5)
    return size if q > 0 else -size


def _draw_from_mixture(
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
        scale = math.exp(at_least(np.float64(float_at(scales + 4 * chosen)), min_log_scale))
        value += scale * temperature * quantile
    half = LEVELS // 2
    code: int = to_int(clamp(nearest(value * half), -half, half - 1))
    return code + half


@inlined
def heaviest(logits: Address, components: int) -> int:
    """Return the component with the largest logit; the first of equal ones."""
    best = 0
    for index in range(1, components):
        if float_at(logits + 4 * index) > float_at(logits + 4 * best):
            best = index
    return best


DRAW_FROM_MIXTURE = types.int64(*[types.int64] * 3, *[types.float64] * 4)
draw_from_mixture = FunctionByAddress(
    _draw_from_mixture, DRAW_FROM_MIXTURE, "draw-from-mixture", SAMPLER_SOURCES
)
