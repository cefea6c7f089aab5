"""What a finished run advises: longer, more recordings, or to generate."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from tests.training.test_run import CONFIG
from wavenet.checkpoint import TrainingInfo, save
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.evaluation.verdict import Verdict
from wavenet.model import WaveNet
from wavenet.training.final_report import model_behind, next_step
from wavenet.training.options import OptimOptions, TrainerOptions
from wavenet.training.validation import History

RUN = Path("runs/folder")
LONGER = "wavenet-train resume=runs/folder trainer.max_steps=4000 optim.lr_schedule_steps=4000"
GENERATE = "wavenet-generate runs/folder/model"
BEST = "the model is of step 800, the best validation so far; the checkpoint of step 860"
FLAT = [(100, 5.0), (300, 4.0), (400, 4.0)]


@pytest.mark.parametrize(
    ("val", "is_better", "advice", "command"),
    [
        (FLAT, False, "Train ten times longer.", LONGER),
        (FLAT, True, "", GENERATE),
        (FLAT, None, "", GENERATE),
        ([(300, 4.5), (400, 4.0)], True, "The curve still falls", LONGER),
        (
            [(200, 4.0), (400, 4.5)],
            False,
            "Held-out audio was predicted best at step 200",
            GENERATE,
        ),
        ([(200, 4.0), (400, 4.005)], False, "Train ten times longer.", LONGER),
        ([], True, "", GENERATE),
    ],
)
def test_the_next_step_follows_from_verdict_and_curve(
    val: list[tuple[int, float]], is_better: bool | None, advice: str, command: str
) -> None:
    config = dataclasses.replace(CONFIG, trainer=TrainerOptions(max_steps=400))

    found = next_step(RUN, config, History(val=val), Verdict(is_better, "a sentence"))

    assert found[0].startswith(advice)
    assert bool(found[0]) is bool(advice)
    assert found[1] == command


@pytest.mark.parametrize("is_better", [True, False, None])
def test_a_run_that_ended_early_in_its_schedule_is_continued_to_its_end(
    is_better: bool | None,
) -> None:
    config = dataclasses.replace(
        CONFIG,
        optim=OptimOptions(lr_schedule_steps=10000),
        trainer=TrainerOptions(max_steps=400),
    )

    found = next_step(RUN, config, History(val=FLAT), Verdict(is_better, "a sentence"))

    assert found == (
        "Training stopped at step 400 of its schedule of 10,000: train to the end of it.",
        "wavenet-train resume=runs/folder trainer.max_steps=10000",
    )


def test_a_command_that_is_shown_can_be_copied_into_a_shell() -> None:
    _, command = next_step(Path("runs/a b"), CONFIG, History(), None)

    assert shlex.split(command) == ["wavenet-generate", "runs/a b/model"]


@pytest.mark.parametrize(
    ("bits", "last", "sentence"),
    [
        (4.5, 860, BEST),
        (None, 860, "the model is of step 800; the checkpoint of step 860"),
        (4.5, 800, ""),
    ],
)
def test_a_model_that_is_older_than_the_checkpoint_is_said_to_be(
    tmp_path: Path, bits: float | None, last: int, sentence: str
) -> None:
    training = TrainingInfo(steps=800, bits_per_sample=bits)
    save(WaveNet(WaveNetConfig(dilations=(1,))), tmp_path / "model", AudioConfig(), training)
    (tmp_path / "checkpoints").mkdir()
    for step in (700, last):
        (tmp_path / "checkpoints" / f"step-{step:08}.ckpt").touch()

    assert model_behind(tmp_path) == sentence
