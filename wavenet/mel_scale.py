"""How far a mel spectrogram is from the scale of a model's training audio.

Power without a logarithm, decibels in place of natural logarithms and the like are far outside of
what any signal has, and a model makes noise of them. Deviations alone do not tell: a band that is
empty in the training audio has a tiny one.
"""

import math

import torch
from torch import Tensor

from wavenet.feature_configs import MelConfig

WARN_DEVIATIONS = 10.0


def largest_deviation(mel: Tensor, config: MelConfig) -> float:
    """Return the deviations of the value that is farthest from the mean.

    Args:
        mel: Normalized as `config` is, of any shape.
        config: The model's convention, with the statistics of its training audio.
    """
    center, unit = _expected(config)
    return float((mel - center).abs().max()) / unit if mel.numel() else 0.0


def is_other_scale(mel: Tensor, config: MelConfig) -> bool:
    """Return whether a value is farther from those of signals than their range is wide.

    Args:
        mel: Normalized as `config` is, `(..., n_mels, F)`.
        config: Its convention.
    """
    if not mel.numel():
        return False
    lowest, highest = (0.0, 1.0) if config.clamp else _range(config)
    if not config.clamp:
        mean, std = (torch.tensor(x, device=mel.device)[:, None] for x in (config.mean, config.std))
        mel = mel * std + mean
    least, largest = (float(value) for value in mel.aminmax())
    return max(lowest - least, largest - highest) > highest - lowest


def describe_deviation(deviations: float, config: MelConfig) -> str:
    """Return in words that a mel is off by so many deviations, and how the model's is made."""
    energy = "power" if config.power == 2 else "magnitude"
    return (
        f"the mel is up to {deviations:,.0f} deviations from the mean of the training audio, "
        f"speech and music stay under {WARN_DEVIATIONS:g}: the model takes the {config.log_base} "
        f"logarithm of the {energy}, at least {config.log_floor:g}, in {config.n_mels} bands of "
        f"{config.f_min:g} to {config.f_max:g} Hz (mel_scale {config.mel_scale}, norm "
        f"{config.norm}, n_fft {config.n_fft}, hop_length {config.hop_length}, win_length "
        f"{config.win_length}); compute it so"
    )


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
    units = {"natural": 1.0, "log10": math.log(10), "decibel": math.log(10) * config.power / 20}
    unit = units[config.log_base]
    return math.log(config.log_floor) / unit, math.log(loudest) / unit
