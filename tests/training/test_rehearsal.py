"""The rehearsal before the first update: it gives the estimate, and changes nothing else."""

import dataclasses
import itertools
import logging
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.small import CONFIG, SAMPLES, build_loop
from tests.training.test_nonfinite import tensors_of
from wavenet.evaluation.workload import Workload
from wavenet.model import WaveNet
from wavenet.training.checkpointing import find_checkpoints
from wavenet.training.loader import Batch
from wavenet.training.loop import Objective
from wavenet.training.options import OptimOptions
from wavenet.training.rehearsal import MAX_PASSES, MAX_SECONDS, seconds_per_pass
from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState, rng_state

REPORT = Workload(
    num_scored=600 * SAMPLES,  # as many as in 600 passes
    num_generated=0,
    seconds_compared=0.0,
    num_pictures=0,
    samples_per_second=1.0,
)


@pytest.fixture(autouse=True)
def _propagate(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("wavenet"), "propagate", True)
    caplog.set_level(logging.INFO, "wavenet")


@pytest.fixture
def _second_per_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock go on by a second whenever it is read."""
    monkeypatch.setattr("time.perf_counter", itertools.count().__next__)


def dropout_state() -> TrainingState:
    """A state whose losses depend on random numbers."""
    torch.manual_seed(0)
    return TrainingState(WaveNet(dataclasses.replace(CONFIG, dropout=0.2)), OptimOptions())


def estimates(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("estimate: ")]


class Interrupted:
    """An objective during which a signal comes."""

    def __init__(self, objective: Objective, stop: StopFlag) -> None:
        self.objective, self.stop, self.calls = objective, stop, 0

    def __call__(self, batch: Batch) -> Tensor:
        self.calls += 1
        self.stop.signal = signal.SIGTERM
        return self.objective(batch)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_rehearsed_run_has_the_bits_of_one_without_rehearsal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, accumulate: int
) -> None:
    options: dict[str, Any] = {"max_steps": 4, "global_batch_size": accumulate}
    options["accumulate_grad_batches"] = accumulate
    plain = build_loop(tmp_path / "plain", dropout_state(), **options)
    segments = iter(plain.loader)
    for _ in range(4):
        plain.update(segments)
        plain.read_results(late=False)
    numbers = rng_state(plain.state.device)

    rehearsed = build_loop(tmp_path / "rehearsed", dropout_state(), **options)
    rehearsed.run()

    assert len(estimates(caplog)) == 1
    assert rehearsed.validation.history.train == plain.validation.history.train
    expected = tensors_of(plain.state)
    for name, tensor in tensors_of(rehearsed.state).items():
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(rng_state(plain.state.device), numbers)


def test_a_rehearsal_leaves_no_gradients_and_the_random_numbers_as_they_were() -> None:
    state = dropout_state()
    weights = [*state.model.parameters()]
    calls = []

    def draw() -> tuple[Any, ...]:
        return random.random(), np.random.random(), float(torch.rand(()))

    def run_pass() -> None:
        assert all(weight.grad is None for weight in weights)
        calls.append(draw())
        torch.stack([weight.sum() for weight in weights]).sum().backward()

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert seconds_per_pass(run_pass, state, StopFlag(), MAX_PASSES) is not None

    assert 2 <= len(calls) <= 1 + MAX_PASSES
    assert all(weight.grad is None for weight in weights)
    assert draw() == calls[0]


@pytest.mark.usefixtures("_second_per_pass")
def test_a_slow_pass_is_rehearsed_until_the_time_is_over_and_the_first_is_not_timed() -> None:
    calls: list[None] = []

    seconds = seconds_per_pass(lambda: calls.append(None), dropout_state(), StopFlag(), 100)

    assert seconds == 1.0
    assert len(calls) == 1 + MAX_SECONDS


@pytest.mark.parametrize(("num_passes", "timed"), [(0, 1), (1, 1), (3, 3)])
def test_no_more_passes_are_rehearsed_than_the_training_has(num_passes: int, timed: int) -> None:
    calls: list[None] = []

    seconds_per_pass(lambda: calls.append(None), dropout_state(), StopFlag(), num_passes)

    assert len(calls) == 1 + timed


@pytest.mark.usefixtures("_second_per_pass")
@pytest.mark.parametrize(("step", "accumulate"), [(0, 1), (0, 2), (3, 2)])
def test_the_estimate_comes_before_the_first_update_of_a_new_or_resumed_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: int, accumulate: int
) -> None:
    found: list[list[str]] = []
    state = dropout_state()
    state.step = step
    loop = build_loop(
        *(tmp_path, state, lambda state: found.append(estimates(caplog))),
        max_steps=7,
        global_batch_size=2,
        accumulate_grad_batches=accumulate,
    )
    loop.progress.report = REPORT

    loop.run()

    seconds, steps = accumulate, 7 - step
    line = f"estimate: {seconds * steps} s for {steps} steps on this machine ({seconds} s a step)"
    assert found == [[f"{line}, then the report (5 to 22 min)"]] * steps


def test_a_resumed_run_without_steps_left_rehearses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = dropout_state()
    state.step = 7
    loop = build_loop(tmp_path, state, max_steps=7)

    loop.run()

    assert estimates(caplog) == []
    assert loop.loader.waited_seconds == 0.0


@pytest.mark.parametrize("step", [0, 3])
def test_a_signal_ends_the_rehearsal_after_its_pass_and_no_update_is_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: int
) -> None:
    state = dropout_state()
    state.step = step
    loop = build_loop(tmp_path, state, max_steps=7)
    interrupted = Interrupted(loop.objective, loop.sync.own_stop)
    loop.objective = interrupted  # type: ignore[assignment]

    loop.run()

    assert interrupted.calls == 1
    assert (state.step, estimates(caplog), find_checkpoints(tmp_path)) == (step, [], [])
