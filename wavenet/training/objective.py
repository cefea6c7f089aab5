"""The training objective: negative log-likelihood of the samples that the mask counts."""

from collections.abc import Callable

import torch
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.features.frames import Features
from wavenet.model import WaveNet
from wavenet.training.acceleration import compile_nll
from wavenet.training.workers import Batch


class Objective:
    """Loss of a batch of segments, with the conditioning computed on the model's device.

    Args:
        model: On its device.
        audio: What conditions the signal.
        compile: Compile the model around its residual stacks.
    """

    def __init__(
        self, model: WaveNet, audio: AudioConfig | None, *, torch_compile: bool = False
    ) -> None:
        self.device = next(model.parameters()).device
        self.features = Features(audio).to(self.device)
        self.nll: Callable[..., Tensor] = compile_nll(model) if torch_compile else model.nll

    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean negative log-likelihood of the counted samples, in nats.

        It is scaled such that the mean over all batches of an update, of all processes, is the mean
        over the samples of that update.
        """
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        nll = self.nll(batch["waveform"], **self.features(batch))
        return masked_mean(nll, batch["mask"], batch["count"])


def masked_mean(values: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """Return the sum of `values` where `mask` is true, both `(B, T)`, divided by `count`."""
    return (values * mask).sum() / count


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of `trainer.precision`: bfloat16 for `bf16-mixed`, else none."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
