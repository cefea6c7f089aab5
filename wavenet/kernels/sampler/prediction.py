"""The linear predictor of one sample: its prediction, and the shift of the network's parameters.

Samples and coefficients are integers here, in units of 2^-15 and 2^-20, so the sum of their
products is exact, as it is in `wavenet.linear_predictor`.
"""

import math

import numpy as np

from wavenet.kernels.by_address import call_of
from wavenet.kernels.compiler import Address, inlined
from wavenet.kernels.past_coefficients import SOLVE_PAST, integer_dot
from wavenet.kernels.sampler.arrays import Run
from wavenet.kernels.scalars import clamp, float_at, nearest, store_float, to_int
from wavenet.utils.shared_constants import COEFFICIENT_STEP, LEVELS, RESIDUAL_RANGE

call_solve_past = call_of(SOLVE_PAST)
HALF_LEVELS = LEVELS // 2
PRODUCT_STEP = COEFFICIENT_STEP / HALF_LEVELS


@inlined
def code_of(value: float) -> int:
    """Return the 16-bit code of a value in [-1, 1]; values outside get the outermost ones."""
    code: int = to_int(clamp(nearest(value * HALF_LEVELS), -HALF_LEVELS, HALF_LEVELS - 1))
    return code + HALF_LEVELS


@inlined
def predict_samples(run: Run, t: int) -> None:
    """Predict each stream's next sample; put its code and the last residual's into the input."""
    share, request, sizes, buffers = run.share, run.request, run.sizes, run.buffers
    position, order, memory = request.position + t, sizes.order, sizes.memory
    is_new = sizes.interval > 0 and position % sizes.interval == 0
    place = position % memory
    for s in range(share.num_streams):
        stream = share.first_stream + s
        integer = buffers.codes[stream, 0, 0] - HALF_LEVELS
        sample = np.float32(integer) / np.float32(HALF_LEVELS)
        scale = buffers.prediction[stream, 1] * np.float32(RESIDUAL_RANGE)
        residual = (sample - buffers.prediction[stream, 0]) / scale
        buffers.history[stream, place] = integer
        buffers.history[stream, place + memory] = integer  # so that all of it lies in one piece
        after = buffers.history.ctypes.data + 4 * (stream * 2 * memory + place + memory + 1)
        if is_new:
            update_coefficients(run, stream, after - 4 * memory)
        if sizes.interval > 0:
            coefficients = buffers.coefficients.ctypes.data + 4 * stream * order
        else:
            given = request.prediction
            part, parts = given.part_of_sample[t], given.coefficients.shape[1]
            coefficients = given.coefficients.ctypes.data + 4 * (stream * parts + part) * order
            buffers.prediction[stream, 1] = given.scales[stream, part]
        total = integer_dot(coefficients, after - 4 * order, order)
        prediction = np.float32(np.float64(total) * PRODUCT_STEP)
        buffers.codes[stream, 1, 0] = code_of(prediction)
        buffers.codes[stream, 2, 0] = code_of(residual)
        buffers.prediction[stream, 0] = prediction


@inlined
def update_coefficients(run: Run, stream: int, window: Address) -> None:
    """Compute a stream's coefficients from its last samples, and the scale of its residual."""
    buffers, past = run.buffers, run.weights.past
    rows, order = buffers.solver.rows, len(past.factors) - 1
    call_solve_past(run.functions.solve_past, window, past, buffers.solver, stream)
    for tap in range(order):
        integer = np.int32(rows[stream, tap] / np.float32(past.rounding.step))
        buffers.coefficients[stream, run.sizes.order - order + tap] = integer
    buffers.prediction[stream, 1] = rows[stream, order]


@inlined
def shift_params(run: Run, params: Address) -> None:
    """Turn parameters of the scaled residual into those of the sample, for each stream."""
    share, sizes, buffers = run.share, run.sizes, run.buffers
    components = sizes.num_mixtures
    means = params + 4 * components if components > 1 else params
    for s in range(share.num_streams):
        prediction = buffers.prediction[share.first_stream + s, 0]
        scale = buffers.prediction[share.first_stream + s, 1]
        log_scale = np.float32(math.log(np.float64(scale)))
        for component in range(components):
            mean = means + s * sizes.activation_bytes + 4 * component
            store_float(mean, prediction + scale * float_at(mean))
            spread = mean + 4 * components
            store_float(spread, float_at(spread) + log_scale)
