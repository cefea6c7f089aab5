"""Linear predictors whose coefficients compiled code computes where they are on a CPU."""

import functools

import numpy as np
import torch
from torch import Tensor

from wavenet.kernels.levinson import Rounding
from wavenet.kernels.past_coefficients import PastConstants, windows_solver
from wavenet.kernels.predictor_coefficients import cpu_coefficients, has_other_constants
from wavenet.kernels.vectors import LANES
from wavenet.linear_predictor import LinearPredictor
from wavenet.mel_predictor import MelPredictor
from wavenet.past_predictor import (
    NOISE_VARIANCE,
    SAMPLE_UNITS,
    PastPredictor,
    past_coefficients,
)


def use_compiled_coefficients(predictor: LinearPredictor) -> None:
    """Let a predictor's coefficients be computed by compiled code where it is on a CPU.

    Those that are not what the config says stay as they are.
    """
    if predictor.has_other_coefficients:
        return
    if isinstance(predictor, MelPredictor):
        if has_other_constants(predictor):
            return
        predictor.coefficients = cpu_coefficients
    elif isinstance(predictor, PastPredictor):
        predictor.coefficients = cpu_past_coefficients


@functools.wraps(past_coefficients)
def cpu_past_coefficients(predictor: PastPredictor, waveform: Tensor, count: int) -> Tensor:
    """Return `past_coefficients` of the arguments; on other devices PyTorch computes it."""
    if type(waveform) is not Tensor or waveform.device.type != "cpu":
        return past_coefficients(predictor, waveform, count)
    constants = past_constants(predictor)
    padding = len(constants.weights) - predictor.memory
    rows = np.empty((len(waveform), count, predictor.num_rows), np.float32)
    integers = (waveform.double() * SAMPLE_UNITS).round().to(torch.int32)
    padded = torch.nn.functional.pad(integers, (padding, 0)).numpy()
    for item, own_rows in zip(padded, rows, strict=True):
        windows_solver()(item, constants, own_rows)
    return torch.from_numpy(rows)


def past_constants(predictor: LinearPredictor | None) -> PastConstants:
    """Return the constants of a predictor for the kernels; of none for another kind."""
    if not isinstance(predictor, PastPredictor):
        return PastConstants(np.zeros(0, np.int32), np.zeros(1), 0, 0.0, Rounding())
    weights = predictor.weights.cpu().numpy().astype(np.int32)
    padding = -len(weights) % LANES
    return PastConstants(
        weights=np.concatenate([np.zeros(padding, np.int32), weights]),
        factors=predictor.factors.cpu().numpy(),
        interval=predictor.interval,
        noise_variance=NOISE_VARIANCE,
        rounding=Rounding(),
    )
