"""The training loop, from a batch of segments to its loss and new weights.

Each update draws segments of audio, sums the gradients of their losses, averages them over all
processes, and lets Adam change the weights. Then the loop validates, saves and logs when that is
due, and ends after `trainer.max_steps` updates or on a signal. A GPU computes an update while the
CPU launches the next one: its loss, and whether its gradients were finite, are read one update
later (`update_result.py`), unless they are needed at once. Before the first update, the passes of
its first batch are rehearsed and timed (`rehearsal.py`).

How a batch is read stands in `loader.py`, the learning rate and the average of the weights in
`optim.py`; what must survive in a checkpoint, in `state.py`.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.features.frames import Features
from wavenet.model import WaveNet
from wavenet.training.acceleration import compile_nll
from wavenet.training.checkpointing import CheckpointManager, is_regular
from wavenet.training.distributed.gradient_sync import GradientSync
from wavenet.training.loader import Batch, SegmentLoader
from wavenet.training.optim import learning_rate, step_optimizer, update_ema
from wavenet.training.options import OptimOptions, TrainerOptions
from wavenet.training.progress import TrainingProgress
from wavenet.training.rehearsal import seconds_per_pass
from wavenet.training.state import TrainingState
from wavenet.training.update_result import UpdateResult
from wavenet.training.validation import Validation, curve_interval
from wavenet.utils.precision import float32_products


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
    results: deque[UpdateResult] = field(default_factory=deque)  # not yet read

    def run(self) -> None:
        """Train up to `options.max_steps`, or until a signal reaches one of the processes."""
        state = self.state
        if self.validation.run_pending(state):
            self.checkpoints.save_history(state.step)
        self.sync.group.broadcast_parameters(state.parameters())
        self.sync.agree_to_stop()

        segments = iter(self.loader)
        if state.step < self.options.max_steps and not self.sync.stop:
            segments = self.rehearse(segments)
            self.sync.agree_to_stop()
        stop = bool(self.sync.stop)
        while state.step < self.options.max_steps and not stop:
            self.update(segments)
            losses = self.read_results(late=state.reads_late and not self.result_is_due())
            self.validation.run_if_due(state)
            stop = bool(self.sync.stop)
            if stop:
                losses += self.read_results(late=False)
            for loss in losses:
                self.progress.update(state, loss)
            if self.checkpoints.is_due(state.step, stop=stop):
                self.validation.export_unvalidated(state)
            self.checkpoints.save_if_due(state, stop=stop)

    def rehearse(self, segments: Iterator[Batch]) -> Iterator[Batch]:
        """Log how long training takes, by the passes of the first batch; return all batches."""
        first, options = next(segments), self.options
        num_passes = (options.max_steps - self.state.step) * options.accumulate_grad_batches
        seconds = seconds_per_pass(
            lambda: self.backward(first), self.state, self.sync.own_stop, num_passes
        )
        if seconds is not None:
            per_step = seconds * options.accumulate_grad_batches
            per_sample = seconds / first["waveform"].numel()
            self.progress.start(self.state.step, per_step, per_sample)
        return itertools.chain([first], segments)

    def update(self, segments: Iterator[Batch]) -> None:
        """Update the weights once, if the gradients are finite."""
        state, optim = self.state, self.optim
        state.optimizer.zero_grad()
        losses = [
            self.backward(next(segments)) for _ in range(self.options.accumulate_grad_batches)
        ]
        self.sync.average_gradients(state.model.parameters())
        gradients = state.gradients()
        norm = torch.nn.utils.get_total_norm(gradients.values())
        result = UpdateResult(state.step + 1, gradients, losses, norm)
        self.results.append(result)
        if state.reads_late or state.gradients_are_finite(result, self.options.on_nonfinite):
            skip = result.skip() if state.reads_late else None
            if optim.max_grad_norm is not None:
                weights = state.model.parameters()
                torch.nn.utils.clip_grads_with_norm_(weights, optim.max_grad_norm, norm)
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(optim, state.step, self.options.max_steps)
            step_optimizer(state.optimizer, skip)
            if state.ema_model is not None and optim.ema_decay is not None:
                update_ema(state.ema_model, state.model, optim.ema_decay, state.step, skip)
        state.step += 1

    def read_results(self, *, late: bool) -> list[float]:
        """Return the mean losses over all processes of the updates since the last call, in nats.

        Args:
            late: Leave the last update to the next call: a GPU may still compute it.

        Raises:
            ConfigError: Training is to stop because of a gradient that is not finite.
        """
        state, losses = self.state, []
        while len(self.results) > late:
            result = self.results.popleft()
            result.wait(self.sync.group)
            if state.reads_late:
                state.gradients_are_finite(result, self.options.on_nonfinite)
            losses.append(self.sync.mean_loss(result.losses))
            self.validation.add_loss(result.step, losses[-1], state.lr, result.gradient_norm)
        return losses

    def result_is_due(self) -> bool:
        """Return whether curve, validation or checkpoint need the result of the last update."""
        step, options = self.state.step, self.options
        intervals = curve_interval(options.max_steps), options.val_every_n_steps
        return is_regular(step, options) or any(step % interval == 0 for interval in intervals)

    def backward(self, batch: Batch) -> Tensor:
        """Add the gradients of a batch to those of the update; return its loss, in nats."""
        precision, device = self.options.precision, self.state.device
        with float32_products(device, tf32=precision == "tf32"):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                loss = self.objective(batch)
            mean = loss / self.options.accumulate_grad_batches
            mean.backward()  # type: ignore[no-untyped-call]
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
        is_cuda = self.device.type == "cuda"
        batch = {
            name: tensor if name == "speaker" else tensor.to(self.device, non_blocking=is_cuda)
            for name, tensor in batch.items()
        }  # speakers are checked on the CPU
        nll = self.nll(batch["waveform"], **self.features(batch))
        return masked_mean(nll, batch["mask"], batch["count"])


def masked_mean(values: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """Return the sum of `values` where `mask` is true, both `(B, T)`, divided by `count`."""
    return (values * mask).sum() / count
