"""What training says of its length before it is known, in the form of its log."""

import dataclasses
from pathlib import Path

import pytest

from tests.training.small import single_process
from tests.training.test_run import CONFIG
from wavenet.training.options import TrainerOptions
from wavenet.training.progress import estimate_line, settings_line

RUN = Path("runs/folder")


def test_a_long_run_is_estimated_in_hours_with_a_shorter_way() -> None:
    line = estimate_line(1.46, 100_000, RUN)

    assert line.startswith("estimate: 40:33 h for 100,000 steps on this machine (1.5 s a step)")
    command = "wavenet-train resume=runs/folder trainer.max_steps=160"
    assert line.endswith(f"a first sound in five minutes: Ctrl-C, then {command}")


@pytest.mark.parametrize(("seconds", "run"), [(0.1, RUN), (40.0, None)])
def test_a_short_or_resumed_run_is_estimated_without_advice(
    seconds: float, run: Path | None
) -> None:
    assert "trainer.max_steps" not in estimate_line(seconds, 1_000, run)


@pytest.mark.parametrize(("seconds", "steps"), [(2.1, 110), (0.11, 2100), (0.005, 48000)])
def test_the_shorter_run_fits_into_five_minutes(seconds: float, steps: int) -> None:
    assert estimate_line(seconds, 10**6, RUN).endswith(f"trainer.max_steps={steps}")


def test_the_estimate_says_how_long_the_report_takes_if_there_is_one() -> None:
    without, with_report = (estimate_line(0.1, 1_000, RUN, seconds) for seconds in (None, 107.0))

    assert with_report == f"{without}, then the report (1 to 4 min)"
    assert "report" not in without


def test_the_settings_are_logged_in_one_line() -> None:
    trainer = TrainerOptions(max_steps=30_000, global_batch_size=2, precision="bf16-mixed")
    config = dataclasses.replace(CONFIG, trainer=trainer)

    line = settings_line(config, 10_000, single_process())

    assert line.startswith("training (cpu, ")
    assert "20,000 steps of 2 x 8,192 samples, bf16-mixed, optim.lr=0.001" in line


def test_a_slow_machine_is_told_when_the_first_checkpoint_comes() -> None:
    line = estimate_line(9.0, 10**6, RUN)

    assert line.endswith("a first sound at step 100, after 15 min")
