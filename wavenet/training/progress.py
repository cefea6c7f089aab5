"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

import logging
import math
import sys
import time
from typing import Any

import pytorch_lightning as pl

from wavenet.training.distributed.gradient_sync import Updates
from wavenet.training.module import TrainingModule
from wavenet.training.validation import History
from wavenet.training.workers import Batches
from wavenet.utils.errors import require

log = logging.getLogger("wavenet")
SECONDS = 15.0  # between lines
SOON = 3.0  # seconds to the first line
SMOOTHING = 0.98
STARVED = 0.2  # share of the time that goes into waiting for audio
LONG_ENOUGH = 60.0  # seconds of training, to know that


class Progress(pl.Callback):
    """Bits per sample, samples a second and time left.

    Args:
        samples_per_step: Samples that the loss covers in one update.
        history: Where the last validation stands.
        updates: Where the loss of the last update stands.
        batches: Know how long training has waited for them.
    """

    def __init__(
        self, samples_per_step: int, history: History, updates: Updates, batches: Batches
    ) -> None:
        self.samples_per_step = samples_per_step
        self.history = history
        self.updates = updates
        self.batches = batches
        self.starved = False
        self.bits = math.nan
        self.warned = False
        self.bar: Any = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock and, on a terminal, the bar."""
        self.first = self.seen = trainer.global_step
        self.started = time.monotonic()
        self.told = self.started + SOON - SECONDS
        if sys.stderr.isatty() and trainer.is_global_zero:
            tqdm = require("tqdm", "train")
            self.bar = tqdm.tqdm(total=trainer.max_steps, initial=self.first, unit="step")

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Tell how far training is, and call out a model that has learnt nothing."""
        step = trainer.global_step
        if step == self.seen:
            return
        self.seen = step
        bits = self.updates.nats / math.log(2)
        known = math.isfinite(self.bits)
        self.bits = SMOOTHING * self.bits + (1 - SMOOTHING) * bits if known else bits
        now = time.monotonic()
        rate = (step - self.first) / max(now - self.started, 1e-9)
        if self.bar is not None:
            self.bar.set_postfix_str(
                f"{self._bits()}, {rate * self.samples_per_step:,.0f} samples/s"
            )
            self.bar.update(1)
        elif now - self.told > SECONDS or step == trainer.max_steps:
            self.told = now
            left = (int(trainer.max_steps) - step) / rate
            log.info(
                "step %d/%d: %s, %s samples/s, %d:%02d left",
                *(step, trainer.max_steps, self._bits(), f"{rate * self.samples_per_step:,.0f}"),
                *divmod(round(left), 60),
            )
        assert isinstance(module, TrainingModule)
        self._call_out(module, step)
        self._call_for_workers(step, now)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _call_for_workers(self, step: int, now: float) -> None:
        """Say once that reading does not keep up, after enough updates to know."""
        share = self.batches.waited / max(now - self.started, 1e-9)
        enough = step - self.first >= 100 and now - self.started > LONG_ENOUGH
        if enough and share > STARVED and not self.starved:
            self.starved = True
            log.warning(
                "warning: %.0f %% of the time goes into waiting for audio: trainer.num_workers=%d "
                "reads ahead in processes of its own",
                *(100 * share, 2 * self.batches.loader.num_workers or 2),
            )

    def _bits(self) -> str:
        text = f"train {self.bits:.3f} bits"
        return f"{text}, held-out {self.history.valid[-1][1]:.3f}" if self.history.valid else text

    def _call_out(self, module: TrainingModule, step: int) -> None:
        levels = module.model.config.quantization_channels
        late = step > module.optim.warmup_steps + 100
        if late and not self.warned and self.bits > math.log2(levels) - 0.05:
            self.warned = True
            log.warning(
                "warning: the model has learnt nothing yet: its loss sits at ln %d = %.3f nats "
                "(%.2f bits), that of a guess; try another optim.lr",
                *(levels, math.log(levels), math.log2(levels)),
            )
