"""What a run has come to: its loss curve, its validations, and the best one's model.

The history is part of the run's saves, so that it goes on where the weights do.
"""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from wavenet import checkpoint
from wavenet.config import AudioConfig
from wavenet.data.dataset import Windows
from wavenet.evaluation.nll import bits_per_sample
from wavenet.training.distributed.gradient_sync import Updates
from wavenet.training.module import TrainingModule
from wavenet.training.signals import Stopped
from wavenet.utils.errors import MachineError

log = logging.getLogger("wavenet")
POINTS = 500  # of the loss curve, at most


class History(pl.Callback):
    """Loss curve and validations; exports the model whenever it is the best so far.

    Args:
        run: The run's folder; the exported model is `run/model`.
        audio: Meaning of the model's signal.
        training: What the model's card says of its data.
        windows: Held-out audio, or absent if none was held out: then the latest is exported.
        every: Updates between validations.
        updates: What came of each update; after the last one a validation is left, and made up for
            when the run goes on.
        after: Called at a validation with the trainer, the module and the step, if there.

    Attributes:
        pending: Step of a validation that was left, or absent.
        made_up: Step of a validation that was made up for in this process, or absent.
    """

    def __init__(
        self,
        run: Path,
        audio: AudioConfig,
        training: checkpoint.TrainingInfo,
        windows: Windows | None,
        every: int,
        updates: Updates,
        after: Callable[[pl.Trainer, TrainingModule, int], None] | None,
    ) -> None:
        self.run = run
        self.audio = audio
        self.training = training
        self.windows = windows
        self.every = every
        self.updates = updates
        self.team = updates.team
        self.after = after
        self.train: list[tuple[int, float]] = []
        self.valid: list[tuple[int, float]] = []
        self.nats = 0.0  # since the last point of the curve
        self.count = 0
        self.seen = 0
        self.owed = False  # an export that the disk refused
        self.pending: int | None = None
        self.made_up: int | None = None

    @property
    def best(self) -> int | None:
        """Step of the best validation so far, the latest of equals; absent if there is none."""
        ranks = [(bits, -step) for step, bits in self.valid if math.isfinite(bits)]
        return -min(ranks)[1] if ranks else None

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain types."""
        return {
            "train": self.train,
            "valid": self.valid,
            "nats": self.nats,
            "updates": self.count,
            "owed": self.owed,
            "pending": self.pending,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a saved history."""
        self.train = [tuple(point) for point in state_dict["train"]]
        self.valid = [tuple(point) for point in state_dict["valid"]]
        self.nats = state_dict["nats"]
        self.count = state_dict["updates"]
        self.owed = state_dict["owed"]
        self.pending = state_dict["pending"]

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Make up for a validation that was left when the run stopped."""
        if self.pending is not None:
            assert isinstance(module, TrainingModule)
            step = self.pending
            self._validate(trainer, module, step)
            self.made_up = step if self.pending is None else None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note where training starts."""
        self.seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Add to the curve, and validate where it is due."""
        step = trainer.global_step
        if step == self.seen:
            return
        self.seen = step
        if math.isfinite(self.updates.nats):  # an update that is left out has no place on the curve
            self.nats += self.updates.nats
            self.count += 1
        last = step == trainer.max_steps
        if step % max(1, int(trainer.max_steps) // POINTS) == 0 or last:
            self._add_point(trainer, step)
        if step % self.every == 0 or last:
            assert isinstance(module, TrainingModule)
            self._validate(trainer, module, step)

    def _add_point(self, trainer: pl.Trainer, step: int) -> None:
        if not self.count:
            return
        bits = self.nats / self.count / math.log(2)
        self.nats, self.count = 0.0, 0
        self.train.append((step, bits))
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        for logger in trainer.loggers:
            logger.log_metrics({"bits/train": bits, "learning_rate": rate}, step)

    def _validate(self, trainer: pl.Trainer, module: TrainingModule, step: int) -> None:
        self.pending = step
        after = self.after
        try:
            self.updates.stop.look()
            bits = self._measure(module, step)
            if after is not None:
                self.team.share(lambda: after(trainer, module, step))
        except Stopped:
            self.updates.agree()  # the signal may have come to the process that plays the preview
            return
        self.pending = None
        best = True
        if bits is not None:
            self.valid.append((step, bits))
            best = self.best == step
            for logger in trainer.loggers:
                logger.log_metrics({"bits/valid": bits}, step)
        if best or self.owed:
            self._export(module, step, last=step == trainer.max_steps)

    def _measure(self, module: TrainingModule, step: int) -> float | None:
        """Return bits per sample of the held-out audio, if there is any."""
        if self.windows is None:
            return None
        started = time.monotonic()
        look, group = self.updates.stop.look, self.updates
        bits = bits_per_sample(module.exported, self.windows, progress=look, group=group)
        took = time.monotonic() - started
        log.info("step %d: held-out %.3f bits per sample (%.0f s)", step, bits, took)
        return bits

    def _export(self, module: TrainingModule, step: int, *, last: bool) -> None:
        try:
            self.team.share(lambda: self.export(module, step))
            self.owed = False
        except MachineError as fault:
            if last:
                raise
            self.owed = True
            log.warning("warning: %s Training goes on and exports at the next validation.", fault)

    def export(self, module: TrainingModule, step: int) -> None:
        """Write the model of this moment to `run/model`.

        Raises:
            ConfigError: What training has come to is not finite; nothing is touched.
        """
        module.check_finite()
        training = checkpoint.TrainingInfo(
            data=self.training.data,
            steps=step,
            seconds_of_audio=self.training.seconds_of_audio,
            bits_per_sample=self.valid[-1][1] if self.valid else None,
            dataset=self.training.dataset,
        )
        with torch.no_grad():
            checkpoint.save(module.exported, self.run / "model", self.audio, training)
