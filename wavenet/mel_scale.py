"""Whether a mel spectrogram is in the scale of a model's training audio.

Power without a logarithm, decibels in place of natural logarithms and the like make noise of a
model. Some are far outside of what any signal has; the others are found by what no recording's
logarithms do, given enough frames: to be non-negative and mostly near zero, to lie under the floor
of the logarithm, or to be loud but bounded by the floor of another logarithm. Deviations alone do
not tell: a band that is empty in the training audio has a tiny one.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from wavenet.feature_configs import MelConfig

WARN_DEVIATIONS = 10.0
MIN_FRAMES = 20  # fewer may be any part of a sound
MIN_SPREAD_FRAMES = 50  # that a spread over time means something
LOG_UNITS = {"natural": 1.0, "log10": math.log(10)}


class ScaleProblem(NamedTuple):
    """What is wrong with the scale of a mel, in words, and whether that is certain."""

    text: str
    is_certain: bool


def find_scale_problem(mel: Tensor, config: MelConfig) -> ScaleProblem | None:
    """Return in words why a mel is in another scale than the model's; `None` if it is in that.

    Args:
        mel: Normalized as `config` is, `(n_mels, F)`.
        config: The model's convention, with the statistics of its training audio.
    """
    if not mel.numel():
        return None
    mel = mel.float()
    logarithms = _logarithms(mel, config)
    deviations = largest_deviation(mel, config)
    far = (
        f"is up to {deviations:,.0f} deviations from the mean of the training audio, speech and "
        f"music stay under {WARN_DEVIATIONS:g}"
    )
    if _is_out_of_range(logarithms, config):
        return ScaleProblem(_describe(far, config), True)
    has_enough = not config.clamp and mel.shape[-1] >= MIN_FRAMES
    if has_enough and (_looks_linear(logarithms) or _looks_linear(mel)):
        reason = "has no negative value and half of it is near 0, as without a logarithm"
        return ScaleProblem(_describe(reason, config), True)
    if deviations > WARN_DEVIATIONS:
        return ScaleProblem(_describe(far, config), False)
    if not has_enough:
        return None
    reason = ""
    if _is_within_0_and_1(logarithms) or _is_within_0_and_1(mel):
        reason = "lies between 0 and 1, as if scaled to that range"
    elif _falls_below_floor(logarithms, config):
        reason = "is in part lower than silence, as with another logarithm or normalization"
    elif _looks_like_a_larger_unit(mel, logarithms, config):
        reason = "is loud, varies little and is never low, as with the logarithm of a larger base"
    return ScaleProblem(_describe(reason, config), False) if reason else None


def largest_deviation(mel: Tensor, config: MelConfig) -> float:
    """Return the deviations of the value that is farthest from the mean.

    Args:
        mel: Normalized as `config` is, of any shape.
        config: The model's convention, with the statistics of its training audio.
    """
    center, unit = _expected(config)
    return float((mel - center).abs().max()) / unit if mel.numel() else 0.0


def _describe(reason: str, config: MelConfig) -> str:
    """Return what is wrong with a mel, and how the model's is made."""
    energy = "power" if config.power == 2 else "magnitude"
    return (
        f"the mel {reason}: the model takes the {config.log_base} "
        f"logarithm of the {energy}, at least {config.log_floor:g}, in {config.n_mels} bands of "
        f"{config.f_min:g} to {config.f_max:g} Hz (mel_scale {config.mel_scale}, norm "
        f"{config.norm}, n_fft {config.n_fft}, hop_length {config.hop_length}, win_length "
        f"{config.win_length}); compute it so"
    )


def _logarithms(mel: Tensor, config: MelConfig) -> Tensor:
    """Return a mel before its normalization; one that is clamped to [0, 1] unchanged."""
    if config.clamp:
        return mel
    mean, std = (torch.tensor(x, device=mel.device)[:, None] for x in (config.mean, config.std))
    return mel * std + mean


def _is_out_of_range(logarithms: Tensor, config: MelConfig) -> bool:
    """Return whether a value is farther from those of signals than their range is wide."""
    lowest, highest = (0.0, 1.0) if config.clamp else _range(config)
    least, largest = (float(value) for value in logarithms.aminmax())
    return max(lowest - least, largest - highest) > highest - lowest


def _looks_linear(values: Tensor) -> bool:
    """Return whether values are non-negative with a long tail, as energies are over time."""
    least, largest = (float(value) for value in values.aminmax())
    return least >= -1e-3 and largest > least and float(values.median()) <= 0.05 * largest


def _is_within_0_and_1(values: Tensor) -> bool:
    least, largest = (float(value) for value in values.aminmax())
    return least >= -1e-3 and largest > least and largest <= 1.001


def _falls_below_floor(logarithms: Tensor, config: MelConfig) -> bool:
    """Return whether values are lower than the floor by more than the error of a model of mels."""
    lowest, highest = _range(config)
    below = logarithms < lowest - (highest - lowest) / 40
    return float(below.float().mean()) > 0.02


def _looks_like_a_larger_unit(mel: Tensor, logarithms: Tensor, config: MelConfig) -> bool:
    """Return whether values are those of a logarithm of a larger base than the model's.

    None is under that logarithm's floor. In a recording this means that it is loud throughout, so
    neither would it change much over time, nor lie on that floor.
    """
    center, unit = _expected(config)
    own = _log_unit(config)
    least = float(logarithms.min())
    loudness = (mel.mean(0) - center) / unit  # of each frame, in deviations
    for other in LOG_UNITS.values():
        floor = math.log(config.log_floor) / other
        if other <= own or least < floor - 1e-3:
            continue
        if float((logarithms < floor + 0.05).float().mean()) > 0.02:
            return True
        changes = len(loudness) >= MIN_SPREAD_FRAMES and float(loudness.std()) > 0.25
        bounded = float(logarithms.max()) < 2.8 / other and float(mel.std()) / unit < 0.8
        if changes and bounded and float(loudness.mean()) > 0.3:
            return True
    return False


def _expected(config: MelConfig) -> tuple[float, float]:
    """Return center and deviation of normalized values; without statistics a tenth of the range."""
    if config.clamp:
        return 0.5, 0.5
    if {*config.mean} != {0.0} or {*config.std} != {1.0}:
        return 0.0, 1.0
    lowest, highest = _range(config)
    return (lowest + highest) / 2, (highest - lowest) / 10


def _range(config: MelConfig) -> tuple[float, float]:
    """Return the least and the largest value of samples in [-1, 1], before normalization."""
    loudest = (config.win_length / 2) ** config.power * config.n_fft
    unit = _log_unit(config)
    return math.log(config.log_floor) / unit, math.log(loudest) / unit


def _log_unit(config: MelConfig) -> float:
    """Return the natural logarithm that is 1 in the logarithm of a convention."""
    return {**LOG_UNITS, "decibel": math.log(10) * config.power / 20}[config.log_base]
