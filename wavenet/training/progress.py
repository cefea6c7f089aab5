"""Training's progress: bits per sample, samples per second, and two warnings."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator

from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.loader import SegmentLoader
from wavenet.training.options import RunConfig
from wavenet.training.state import TrainingState
from wavenet.training.validation import History
from wavenet.utils.progress import Advance, progress

log = logging.getLogger("wavenet")
SMOOTHING = 0.98  # of the shown loss
MAX_WAITING_SHARE = 0.2  # of the time, for audio
MIN_WAITING_SECONDS = 60.0  # of training, before the share is judged
MIN_WAITING_STEPS = 100


@contextlib.contextmanager
def training_progress(
    config: RunConfig, step: int, history: History, loader: SegmentLoader, group: ProcessGroup
) -> Iterator["TrainingProgress"]:
    """Yield a `TrainingProgress` that shows its updates from `step` on, in process 0."""
    bar = progress(
        config.trainer.max_steps,
        unit="step",
        description="training",
        initial=step,
        disable=group.rank > 0,
    )
    with bar as advance:
        yield TrainingProgress(advance, config, history, loader)


class TrainingProgress:
    """Reports each update, and warns about a model that learns nothing and about slow reading.

    Args:
        advance: Shows progress, from `wavenet.utils.progress`.
        config: Of the run.
        history: Holds the last validation.
        loader: Knows how long training has waited for audio.
    """

    def __init__(
        self,
        advance: Advance,
        config: RunConfig,
        history: History,
        loader: SegmentLoader,
    ) -> None:
        self.advance = advance
        self.samples_per_step = config.trainer.global_batch_size * config.trainer.segment_length
        self.num_values = config.model.quantization_channels  # that a guess chooses from
        self.warmup_steps = config.optim.warmup_steps
        self.history = history
        self.loader = loader
        self.bits = math.nan  # smoothed
        self.steps = 0  # in this process
        self.started = time.monotonic()
        self.warned_of_guess = False
        self.warned_of_waiting = False

    def update(self, state: TrainingState, nats: float) -> None:
        """Report an update and its loss."""
        bits = nats / math.log(2)
        known = math.isfinite(self.bits)
        self.bits = SMOOTHING * self.bits + (1 - SMOOTHING) * bits if known else bits
        self.steps += 1
        seconds = max(time.monotonic() - self.started, 1e-9)
        text = f"train {self.bits:.3f} bits"
        if self.history.val:
            text += f", held-out {self.history.val[-1][1]:.3f}"
        rate = self.steps * self.samples_per_step / seconds
        self.advance(postfix=f"{text}, {rate:,.0f} samples/s")
        self._warn_of_guess(state.step)
        self._warn_of_waiting(seconds)

    def _warn_of_guess(self, step: int) -> None:
        late = step > self.warmup_steps + 100
        if late and not self.warned_of_guess and self.bits > math.log2(self.num_values) - 0.05:
            self.warned_of_guess = True
            log.warning(
                "warning: the model has learnt nothing yet: its loss is ln %d = %.3f nats "
                "(%.2f bits), that of a guess; try another optim.lr",
                *(self.num_values, math.log(self.num_values), math.log2(self.num_values)),
            )

    def _warn_of_waiting(self, seconds: float) -> None:
        share = self.loader.waited_seconds / seconds
        known = self.steps >= MIN_WAITING_STEPS and seconds > MIN_WAITING_SECONDS
        if known and share > MAX_WAITING_SHARE and not self.warned_of_waiting:
            self.warned_of_waiting = True
            log.warning(
                "warning: %.0f %% of the time is spent waiting for audio: trainer.num_workers=%d "
                "reads ahead in separate processes",
                *(100 * share, 2 * self.loader.loader.num_workers or 2),
            )
