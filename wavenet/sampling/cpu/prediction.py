"""The linear predictor's coefficients as the kernel takes them."""

import numpy as np
import torch

from wavenet.distributions import SamplingConfig
from wavenet.kernels.sampler.arrays import PredictionRequest
from wavenet.sampling.conditioning import LocalConditioning
from wavenet.sampling.voicing import voiced_subframes
from wavenet.utils.shared_constants import COEFFICIENT_STEP

NOTHING_IS_VOICED = np.zeros((1, 0), np.bool_)
NO_PREDICTION = PredictionRequest(
    np.zeros((1, 1, 1), np.int32),
    np.zeros((1, 1), np.float32),
    np.zeros(1, np.int64),
    NOTHING_IS_VOICED,
)


def prediction_request(
    given: LocalConditioning | None, order: int, sampling: SamplingConfig
) -> PredictionRequest:
    """Return what the kernel predicts with, given the conditioning of its samples.

    Args:
        given: It may have coefficients, of each sub-frame.
        order: Coefficients of a sub-frame, zeros for the oldest samples included.
        sampling: It may have another temperature for voiced sub-frames.
    """
    if given is None or given.coefficients is None or given.subframes is None:
        return NO_PREDICTION
    rows = given.coefficients.cpu()
    integers = (rows[..., :-1] / COEFFICIENT_STEP).to(torch.int32).numpy()
    coefficients = np.zeros((*integers.shape[:2], order), np.int32)
    coefficients[..., order - integers.shape[2] :] = integers
    scales = np.ascontiguousarray(rows[..., -1].numpy())
    is_voiced = NOTHING_IS_VOICED
    if sampling.voiced_temperature is not None:
        is_voiced = voiced_subframes(given).cpu().numpy()
    return PredictionRequest(coefficients, scales, given.subframes.numpy(), is_voiced)
