"""A run whose training checkpoints are damaged, resumed from the command line."""

from pathlib import Path

import pytest

from tests.commands import Run
from tests.process_groups import assert_same_bits
from wavenet.training.checkpointing import find_checkpoints

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
