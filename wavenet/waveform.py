"""Waveforms `(B, T)`, as a model takes them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def shape_of_waveform(waveform: Tensor) -> torch.Size:
    """Return `(B, T)`, the shape of a waveform.

    Raises:
        ValueError: It has another shape, or is not floating point.
    """
    if waveform.dim() != 2:
        hints = {1: "add a batch axis, waveform.unsqueeze(0)"}
        if waveform.dim() == 3 and waveform.shape[1] == 1:
            hints[3] = "drop the channel axis, waveform.squeeze(1)"
        hint = hints.get(waveform.dim(), "one channel, without an axis for it")
        raise ValueError(f"waveform must be (B, T), got {tuple(waveform.shape)}: {hint}")
    if not waveform.is_floating_point():
        scales = {torch.uint8: "subtract 128, then divide by 128"}
        scales |= {torch.int16: "divide by 32768", torch.int32: "divide by 2147483648"}
        hint = scales.get(waveform.dtype, "convert it")
        raise ValueError(
            f"waveform must be floating point, samples in [-1, 1], got {waveform.dtype}: {hint}"
        )
    return waveform.shape


def shape_of_input(waveform: Tensor) -> torch.Size:
    """Return `(B, T)`, the shape of a model's waveform, which has one sample or more.

    Raises:
        ValueError: It has another shape or no sample, or is not floating point.
    """
    shape = shape_of_waveform(waveform)
    if shape[1] == 0:
        raise ValueError(f"waveform must have one sample or more, got {tuple(shape)}")
    return shape


def check_samples_finite(waveform: Tensor) -> None:
    """Raise a `ValueError` if a waveform, `(B, T)`, on the CPU holds NaN or infinity.

    The values on another device are not looked at, which would wait for it.
    """
    if waveform.device.type != "cpu" or bool(waveform.detach().sum().isfinite()):
        return
    # the sum of large numbers may be infinite too
    bad = (~waveform.detach().isfinite()).nonzero()
    if len(bad):
        item, sample = bad[0].tolist()
        value = waveform[item, sample].item()
        raise ValueError(
            f"waveform must be finite, got {len(bad):,} of {waveform.numel():,} samples that are "
            f"NaN or infinity, the first {value} at sample {sample:,} of item {item}"
        )


def shift_right(waveform: Tensor) -> Tensor:
    """Return the waveform delayed by one sample, `(B, T)`: silence first, the last one dropped."""
    return F.pad(waveform, (1, 0))[..., :-1]
