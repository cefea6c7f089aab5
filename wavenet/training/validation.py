"""Loss curve, validation and best-model export.

The history is part of each checkpoint, so that a resumed run continues its curve. A validation that
a signal interrupts stays pending, and is run first when the run is resumed.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from wavenet import checkpoint
from wavenet.checkpoint import TrainingInfo
from wavenet.data.dataset import SequentialSegments
from wavenet.evaluation.nll import total_nll
from wavenet.training.distributed.gradient_sync import GradientSync
from wavenet.training.loggers import Loggers
from wavenet.training.options import RunConfig
from wavenet.training.signals import Stopped
from wavenet.training.state import TrainingState
from wavenet.utils.errors import MachineError, shell_word

MAX_CURVE_POINTS = 500
log = logging.getLogger("wavenet")


@dataclass
class History:
    """Loss curve and validations so far, points of (step, bits per sample).

    A point of the loss curve is the mean since the previous one.
    """

    train: list[tuple[int, float]] = field(default_factory=list)
    val: list[tuple[int, float]] = field(default_factory=list)
    nats: float = 0.0  # sum of the losses since the last point of the curve
    updates: int = 0  # number of those losses
    export_failed: bool = False  # the last time, because the disk was full
    pending_validation: int | None = None  # step of a validation that a signal interrupted

    @property
    def best_step(self) -> int | None:
        """Step of the best validation so far, the latest of equals; `None` if there is none."""
        ranks = [(bits, -step) for step, bits in self.val if math.isfinite(bits)]
        return -min(ranks)[1] if ranks else None

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain types."""
        return {**vars(self), "train": [*self.train], "val": [*self.val]}

    def load_state_dict(self, contents: dict[str, Any]) -> None:
        """Continue a saved history."""
        vars(self).update(contents)


@dataclass
class Validation:
    """Adds to the history, validates when due, and exports the best model so far to `run/model`."""

    run: Path  # the run's folder
    config: RunConfig  # when a validation is due, and the meaning of the model's signal
    history: History
    sync: GradientSync  # the processes, which share the windows of a validation
    info: TrainingInfo  # what the model card says about the data
    windows: SequentialSegments | None = None  # held-out audio; without, the latest is exported
    preview: Callable[[TrainingState], None] | None = None  # called in process 0
    loggers: Loggers | None = None  # get the curves
    timed: tuple[int, float] | None = None  # step and time of the last point of the curve
    exported_step: int | None = None  # of the last export of this process

    def add_loss(self, step: int, nats: float, lr: float, gradient_norm: float) -> None:
        """Add the loss of update `step` to the curve; a skipped one has no place on it."""
        history, max_steps = self.history, self.config.trainer.max_steps
        if math.isfinite(nats):
            history.nats += nats
            history.updates += 1
        due = step % curve_interval(max_steps) == 0 or step == max_steps
        if due and history.updates:
            bits = history.nats / history.updates / math.log(2)
            history.nats, history.updates = 0.0, 0
            history.train.append((step, bits))
            scalars = {"train/bits_per_sample": bits, "train/learning_rate": lr}
            if math.isfinite(gradient_norm):
                scalars["train/gradient_norm"] = gradient_norm
            self._log({**scalars, **self._speed(step)}, step)

    def _speed(self, step: int) -> dict[str, float]:
        """Return the samples per second since the last point of the curve."""
        trainer, before, now = self.config.trainer, self.timed, time.monotonic()
        self.timed = step, now
        if before is None or now <= before[1]:
            return {}
        samples = (step - before[0]) * trainer.global_batch_size * trainer.segment_length
        return {"train/samples_per_second": samples / (now - before[1])}

    def run_if_due(self, state: TrainingState) -> None:
        """Validate after an update, every `val_every_n_steps` and after the last one."""
        options = self.config.trainer
        if state.step == options.max_steps or state.step % options.val_every_n_steps == 0:
            self.validate(state)

    def run_pending(self, state: TrainingState) -> bool:
        """Run a validation that a signal interrupted; return whether it was run to its end."""
        if self.history.pending_validation is None:
            return False
        self.validate(state)
        return self.history.pending_validation is None

    def validate(self, state: TrainingState) -> None:
        """Measure bits per sample, preview, and export the model if it is the best so far."""
        history, step, preview = self.history, state.step, self.preview
        history.pending_validation = step
        try:
            self.sync.stop.raise_if_stopped()
            bits = self._measure(state)
            if preview is not None:
                self.sync.group.run_on_rank_zero(lambda: preview(state))
        except Stopped:
            self.sync.agree_to_stop()  # process 0 alone runs the preview, and may have got a signal
            return
        history.pending_validation = None
        best = True
        if bits is not None:
            history.val.append((step, bits))
            best = history.best_step == step
            self._log({"val/bits_per_sample": bits}, step)
        if best or history.export_failed:
            self._try_to_export(state)

    def export_unvalidated(self, state: TrainingState) -> None:
        """Export the weights at a checkpoint, as long as no validation has chosen others."""
        if state.step and not self.history.val and self.exported_step != state.step:
            if self.exported_step is None and not (self.run / "model").exists():
                command = generate_command(self.run, self.config)
                log.info("a first model to listen to: %s", command)
            self._try_to_export(state)

    def _measure(self, state: TrainingState) -> float | None:
        """Return bits per sample of the held-out audio, if there is any."""
        if self.windows is None:
            return None
        started, check = time.monotonic(), self.sync.stop.raise_if_stopped
        bits = total_nll(state.eval_model, self.windows, check, group=self.sync).bits_per_sample
        seconds = time.monotonic() - started
        log.info("step %d: validation %.3f bits per sample (%.0f s)", state.step, bits, seconds)
        return bits

    def _try_to_export(self, state: TrainingState) -> None:
        try:
            self.sync.group.run_on_rank_zero(lambda: self.export(state))
            self.history.export_failed, self.exported_step = False, state.step
        except MachineError as error:
            if state.step == self.config.trainer.max_steps:
                raise
            self.history.export_failed = True
            log.warning("warning: %s Training continues and exports at the next validation.", error)

    def export(self, state: TrainingState) -> None:
        """Write the model to `run/model`.

        Raises:
            ConfigError: Something in `state` is not finite; nothing is written.
        """
        state.check_finite()
        bits = self.history.val[-1][1] if self.history.val else None
        info = dataclasses.replace(self.info, steps=state.step, bits_per_sample=bits)
        with torch.no_grad():
            checkpoint.save(state.eval_model, self.run / "model", self.config.audio, info)

    def _log(self, scalars: dict[str, float], step: int) -> None:
        if self.loggers is not None:
            self.loggers.add_scalars(scalars, step)


def curve_interval(max_steps: int) -> int:
    """Return the updates from one point of the loss curve to the next."""
    return max(1, max_steps // MAX_CURVE_POINTS)


def generate_command(run: Path, config: RunConfig) -> str:
    """Return the command that generates from a run's model."""
    needs_input = " input=FILE" if config.audio.features else ""
    return f"wavenet-generate {shell_word(run / 'model')}{needs_input}"


def resume_command(run: Path, max_steps: int | None = None) -> str:
    """Return the command that resumes a run, to its own last step or another."""
    to_another = "" if max_steps is None else f" trainer.max_steps={max_steps}"
    return f"wavenet-train resume={shell_word(run)}{to_another}"
