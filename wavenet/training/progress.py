"""Training's progress: settings, an estimate, bits and samples per second, and two warnings."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wavenet.evaluation.workload import Workload, time_range
from wavenet.training.checkpointing import FIRST_CHECKPOINT_STEP
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.loader import SegmentLoader
from wavenet.training.options import RunConfig
from wavenet.training.state import TrainingState
from wavenet.training.validation import History, resume_command
from wavenet.utils.progress import Advance, duration, progress

log = logging.getLogger("wavenet")
SMOOTHING = 0.98  # of the shown loss
MAX_WAITING_SHARE = 0.2  # of the time, for audio
MIN_WAITING_SECONDS = 60.0  # of training, before the share is judged
MIN_WAITING_STEPS = 100
LONG_SECONDS, SHORT_SECONDS = 600.0, 240.0  # a long run, and the steps of a short one


@contextlib.contextmanager
def training_progress(
    config: RunConfig,
    run: Path,
    step: int,
    history: History,
    loader: SegmentLoader,
    group: ProcessGroup,
    report: Workload | None,
) -> Iterator["TrainingProgress"]:
    """Yield a `TrainingProgress` that shows its updates from `step` on, in process 0.

    The report, if there is one after them, is part of the estimate.
    """
    if step < config.trainer.max_steps:
        log.info("%s", settings_line(config, step, group))
    bar = progress(
        config.trainer.max_steps,
        unit="step",
        description="training",
        initial=step,
        disable=group.rank > 0,
    )
    with bar as advance:
        yield TrainingProgress(advance, config, run, history, loader, report)


def settings_line(config: RunConfig, step: int, group: ProcessGroup) -> str:
    """Return what decides how long training takes and what it learns, in one line."""
    trainer, optim = config.trainer, config.optim
    place = f"{group.device.type}"
    if group.device.type == "cpu":
        place += (
            f", {torch.get_num_threads()} threads" if torch.get_num_threads() > 1 else ", 1 thread"
        )
    if group.size > 1:
        place += f", {group.size} processes"
    return (
        f"training ({place}): {trainer.max_steps - step:,} steps of {trainer.global_batch_size} x "
        f"{trainer.segment_length:,} samples, {trainer.precision}, optim.lr={optim.lr:g}, "
        f"optim.ema_decay={optim.ema_decay}"
    )


def estimate_line(
    seconds_per_step: float,
    steps: int,
    new_run: Path | None,
    report_seconds: float | None = None,
) -> str:
    """Return how long training takes, and for a long one how to get a first sound soon.

    Args:
        seconds_per_step: Measured on this machine.
        steps: That are left.
        new_run: Folder of a run that starts here; `None` for a resumed one, which keeps its length.
        report_seconds: How long the report after them takes; `None` without one.
    """
    total = seconds_per_step * steps
    text = (
        f"estimate: {duration(total)} for {steps:,} steps on this machine "
        f"({seconds_per_step:.2g} s a step)"
    )
    if report_seconds is not None:
        text += f", then the report ({time_range(report_seconds)})"
    if new_run is None or total < LONG_SECONDS:
        return text
    short = SHORT_SECONDS / seconds_per_step
    if short < FIRST_CHECKPOINT_STEP:
        first = duration(FIRST_CHECKPOINT_STEP * seconds_per_step)
        return f"{text}; a first sound at step {FIRST_CHECKPOINT_STEP}, after {first}"
    size = 10 ** max(math.floor(math.log10(max(short, 1))) - 1, 0)
    short = max(math.floor(short / size) * size, 1)  # two digits
    command = resume_command(new_run, short)
    return f"{text}; a first sound in five minutes: Ctrl-C, then {command}"


@dataclass
class TrainingProgress:
    """Reports each update, and warns about a model that learns nothing and about slow reading."""

    advance: Advance
    config: RunConfig
    run: Path  # its folder
    history: History  # holds the last validation
    loader: SegmentLoader  # knows how long training has waited for audio
    report: Workload | None = None  # after the last update
    bits: float = math.nan  # the shown loss, smoothed
    steps: int = 0  # updates of this process
    started: float = field(default_factory=time.monotonic)
    warned: set[str] = field(default_factory=set)  # each warning is given once

    def start(self, step: int, seconds_per_step: float, seconds_per_sample: float) -> None:
        """Log how long the updates after `step` take, and measure samples per second from now.

        Args:
            step: Updates that are done.
            seconds_per_step: Of an update.
            seconds_per_sample: Of this process.
        """
        steps = self.config.trainer.max_steps - step
        report = None if self.report is None else self.report.seconds(seconds_per_sample)
        new_run = None if step else self.run
        log.info("%s", estimate_line(seconds_per_step, steps, new_run, report))
        self.started = time.monotonic()

    def update(self, state: TrainingState, nats: float) -> None:
        """Report an update and its loss."""
        bits, trainer = nats / math.log(2), self.config.trainer
        known = math.isfinite(self.bits)
        self.bits = SMOOTHING * self.bits + (1 - SMOOTHING) * bits if known else bits
        self.steps += 1
        seconds = max(time.monotonic() - self.started, 1e-9)
        text = f"train {self.bits:.3f} bits"
        if self.history.val:
            text += f", validation {self.history.val[-1][1]:.3f}"
        rate = self.steps * trainer.global_batch_size * trainer.segment_length / seconds
        self.advance(postfix=f"{text}, {rate:,.0f} samples/s")
        self._warn_of_guess(state.step)
        self._warn_of_waiting(seconds)

    def _warn_of_guess(self, step: int) -> None:
        values = self.config.model.quantization_channels  # that a guess chooses from
        late = step > self.config.optim.warmup_steps + 100
        if late and self.bits > math.log2(values) - 0.05:
            self._warn(
                "warning: the model has learnt nothing yet: its loss is ln %d = %.3f nats "
                "(%.2f bits), that of a guess; try another optim.lr",
                *(values, math.log(values), math.log2(values)),
            )

    def _warn_of_waiting(self, seconds: float) -> None:
        share = self.loader.waited_seconds / seconds
        known = self.steps >= MIN_WAITING_STEPS and seconds > MIN_WAITING_SECONDS
        if known and share > MAX_WAITING_SHARE:
            self._warn(
                "warning: %.0f %% of the time is spent waiting for audio: trainer.num_workers=%d "
                "reads ahead in separate processes",
                *(100 * share, 2 * self.loader.loader.num_workers or 2),
            )

    def _warn(self, text: str, *values: object) -> None:
        if text not in self.warned:
            self.warned.add(text)
            log.warning(text, *values)
