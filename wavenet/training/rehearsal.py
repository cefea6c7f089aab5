"""A rehearsal of the first update: how long a step takes is known before training begins.

The forward and backward passes of a batch are timed. They change nothing: no weight is updated, no
process waits for another, and random numbers are drawn again. On a CPU they are nine tenths of an
update; reading the batch, the average over processes, optimizer and EMA are the rest.
"""

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState, rng_state, set_rng_state

MAX_PASSES, MAX_SECONDS = 10, 2.0  # timed: whichever comes first, but one pass at least


def seconds_per_pass(
    run_pass: Callable[[], object], state: TrainingState, stop: StopFlag, num_passes: int
) -> float | None:
    """Return how long the passes of a batch take, or `None` if a signal came before it is known.

    Args:
        run_pass: Adds to the gradients of `state.model`, and changes nothing else.
        state: Has no gradients afterwards.
        stop: Ends the rehearsal after the pass that runs.
        num_passes: Of the training; no more are timed.
    """
    seconds: list[float] = []
    with _preserve_rng_state(state.device):
        if not stop:
            _time_pass(run_pass, state)  # compiles and allocates
        most = max(1, min(MAX_PASSES, num_passes))
        while not stop and len(seconds) < most and sum(seconds) < MAX_SECONDS:
            seconds.append(_time_pass(run_pass, state))
    state.optimizer.zero_grad()
    return statistics.median(seconds) if seconds else None


def _time_pass(run_pass: Callable[[], object], state: TrainingState) -> float:
    state.optimizer.zero_grad()  # as each update does
    started = time.perf_counter()
    run_pass()
    if state.device.type != "cpu":
        torch.accelerator.synchronize(state.device)
    return time.perf_counter() - started


@contextlib.contextmanager
def _preserve_rng_state(device: torch.device) -> Iterator[None]:
    """Restore the random numbers of Python, NumPy and torch: a changed model may draw from each."""
    of_python, of_numpy, of_torch = random.getstate(), np.random.get_state(), rng_state(device)
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        set_rng_state(of_torch, device)
