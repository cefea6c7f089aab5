"""A run whose training checkpoints are damaged, resumed from the command line."""

from pathlib import Path

import pytest
import torch

from tests.commands import Run
from tests.process_groups import assert_same_bits, torchrun_environment
from wavenet.training.checkpointing import find_checkpoints, read_checkpoint

pytestmark = pytest.mark.slow
TRAIN = (
    *("recipe=folder", "model=tiny", "model.dropout=0.1", "audio.sample_rate=8000"),
    *("data.valid_fraction=0.3", "trainer.max_steps=4", "trainer.global_batch_size=2"),
    *("trainer.segment_length=100", "trainer.save_every_n_steps=2", "trainer.val_every_n_steps=4"),
    *("trainer.preview_seconds=0", "evaluation.sample_seconds=0"),
)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_run_with_a_damaged_newest_checkpoint_resumes_to_the_same_bits(
    run: Run, recordings: Path
) -> None:
    for name in ("intact", "damaged"):
        done = run("train", *TRAIN, f"data.root={recordings}", f"run_dir={name}")
        assert done.returncode == 0, done.stderr
    newest = find_checkpoints(Path("damaged"))[-1]
    truncate(newest)

    done = run("train", "resume=damaged")

    assert done.returncode == 0, done.stderr
    assert f"{newest.name} is truncated or corrupt" in done.stderr
    assert f"kept as {newest.name}.damaged" in done.stderr
    assert "resuming damaged from step 2" in done.stderr
    assert_same_bits(Path("intact"), Path("damaged"))

    for path in find_checkpoints(Path("damaged")):
        truncate(path)
    for _ in range(2):
        done = run("train", "resume=damaged")
        assert done.returncode == 4
        assert "all 2 training checkpoints of damaged are damaged: start a new run" in done.stderr


def test_the_learning_rate_is_that_of_the_step_a_run_goes_on_from(
    run: Run, recordings: Path
) -> None:
    """The checkpoint of step 4 is damaged, so the run goes on from step 2."""
    rates = "optim.warmup_steps=0", "optim.lr=0.001", "optim.min_lr_ratio=0.1"  # half: 0.00055
    done = run("train", *TRAIN, *rates, f"data.root={recordings}", "run_dir=run")
    assert done.returncode == 0, done.stderr
    truncate(find_checkpoints(Path("run"))[-1])

    done = run("train", "resume=run", "trainer.max_steps=6")

    assert done.returncode == 0, done.stderr
    assert "keeps its schedule of 4 steps, 0.00055 now and 0.0001 at the end" in done.stderr


def test_a_relaunched_finished_run_trains_the_steps_of_a_damaged_checkpoint(
    run: Run, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in torchrun_environment(0, 1, 0, "a launch").items():
        monkeypatch.setenv(name, value)
    command = "train", *TRAIN, f"data.root={recordings}", "run_dir=run"
    assert run(*command).returncode == 0
    newest = find_checkpoints(Path("run"))[-1]
    before = read_checkpoint(newest)
    assert "run is finished" in run(*command).stderr
    truncate(newest)

    done = run(*command)

    assert done.returncode == 0, done.stderr
    assert f"{newest.name} is truncated or corrupt" in done.stderr
    assert f"kept as {newest.name}.damaged" in done.stderr
    assert "resuming run from step 2" in done.stderr
    after = read_checkpoint(newest)
    assert all(torch.equal(after["model"][name], before["model"][name]) for name in before["model"])
