"""Bits per sample of a model on audio: what one sample costs to code when the past is known."""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch

from wavenet.data.crops import Windows
from wavenet.model import WaveNet


@contextlib.contextmanager
def evaluating(model: WaveNet) -> Iterator[None]:
    """Put the model in evaluation mode within the block."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def bits_per_sample(
    model: WaveNet, windows: Windows, progress: Callable[[int], None] | None = None
) -> float:
    """Return the mean negative log-likelihood in bits per sample, each with its full past.

    Args:
        model: Evaluated without dropout, whatever its mode.
        windows: The audio, each sample counted once.
        progress: Called after each window with the samples that it counted.
    """
    device = next(model.parameters()).device
    nats, count = 0.0, 0
    with evaluating(model):
        for index in range(len(windows)):
            window = windows[index]
            nll = model.nll(window["waveform"].to(device)).cpu().double()
            counted = int(window["mask"].sum())
            nats += float((nll * window["mask"]).sum())
            count += counted
            if progress is not None:
                progress(counted)
    return nats / max(count, 1) / math.log(2)
