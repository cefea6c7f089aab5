"""The training loop, from a batch of segments to its loss and new weights.

Each update draws segments of audio, sums the gradients of their losses, averages them over all
processes, and lets Adam change the weights. Then the loop validates, saves and logs when that is
due, and ends after `trainer.max_steps` updates or on a signal.

How a batch is read stands in `loader.py`, the learning rate and the average of the weights in
`optim.py`; what must survive in a checkpoint, in `state.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.features.frames import Features
from wavenet.model import WaveNet
from wavenet.training.acceleration import compile_nll
from wavenet.training.checkpointing import CheckpointManager
from wavenet.training.distributed.gradient_sync import GradientSync
from wavenet.training.loader import Batch, SegmentLoader
from wavenet.training.optim import learning_rate, update_ema
from wavenet.training.options import OptimOptions, TrainerOptions
from wavenet.training.progress import TrainingProgress
from wavenet.training.state import TrainingState
from wavenet.training.validation import Validation


@dataclass
class TrainingLoop:
    """Trains a model."""

    state: TrainingState  # weights, EMA, optimizer and step: what training changes
    objective: "Objective"  # loss of a batch of segments
    loader: SegmentLoader  # endless batches, this process's part of each update
    sync: GradientSync  # averages over the processes, and the stop flag that they share
    validation: Validation  # loss curve, validations and best-model export
    checkpoints: CheckpointManager  # saves `state` and the history
    progress: TrainingProgress  # shows how far training is
    optim: OptimOptions  # learning rate, clipping and EMA
    options: TrainerOptions  # number of updates, accumulation, precision

    def run(self) -> None:
        """Train up to `options.max_steps`, or until a signal reaches one of the processes."""
        state = self.state
        if self.validation.run_pending(state):
            self.checkpoints.save_history(state.step)
        self.sync.group.broadcast_parameters(state.parameters())
        self.sync.agree_to_stop()

        segments = iter(self.loader)
        while state.step < self.options.max_steps and not self.sync.stop:
            loss = self.update(segments)
            self.validation.add_loss(state, loss)
            self.validation.run_if_due(state)
            self.progress.update(state, loss)
            self.checkpoints.save_if_due(state)

    def update(self, segments: Iterator[Batch]) -> float:
        """Update the weights once; return the mean loss over all processes, in nats."""
        state, optim = self.state, self.optim
        state.optimizer.zero_grad()
        losses = [
            self.backward(next(segments)) for _ in range(self.options.accumulate_grad_batches)
        ]
        self.sync.average_gradients(state.model.parameters())
        if state.gradients_are_finite(losses, self.options.on_nonfinite):
            if optim.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(state.model.parameters(), optim.max_grad_norm)
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(optim, state.step, self.options.max_steps)
            state.optimizer.step()
            if state.ema_model is not None and optim.ema_decay is not None:
                update_ema(state.ema_model, state.model, optim.ema_decay, state.step)
        state.step += 1
        return self.sync.mean_loss([float(loss) for loss in losses])

    def backward(self, batch: Batch) -> Tensor:
        """Add the gradients of a batch to those of the update; return its loss, in nats."""
        mixed = self.options.precision == "bf16-mixed"
        with torch.autocast(self.state.device.type, torch.bfloat16, enabled=mixed):
            loss = self.objective(batch)
        (loss / self.options.accumulate_grad_batches).backward()  # type: ignore[no-untyped-call]
        return loss.detach()


class Objective:
    """Loss of a batch of segments, with the conditioning computed on the model's device.

    Args:
        model: On its device.
        audio: What conditions the signal.
        torch_compile: Compile the model around its residual stacks.
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
