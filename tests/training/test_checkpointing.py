import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tests.training.small import CONFIG, fit
from wavenet import checkpoint
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.training.checkpointing import (
    DurableCheckpointIO,
    Saves,
    find_saves,
    read_save,
    step_of,
)
from wavenet.training.distributed.gradient_sync import Updates
from wavenet.training.distributed.launcher import Launch
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.module import TrainingModule
from wavenet.training.options import OptimOptions, TrainerOptions
from wavenet.training.signals import StopFlag
from wavenet.training.validation import History
from wavenet.utils.errors import CheckpointError, MachineError


class Payload:
    """What a hostile pickle would do on loading."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


def test_a_save_comes_back_as_it_was(tmp_path: Path) -> None:
    contents = {"weights": torch.rand(3), "step": 7, "history": [(1, 2.5)]}

    DurableCheckpointIO().save_checkpoint(contents, tmp_path / "step-00000007.ckpt")
    found = read_save(tmp_path / "step-00000007.ckpt")

    assert torch.equal(found.pop("weights"), contents.pop("weights"))  # type: ignore[arg-type]
    assert found == contents


def test_a_save_that_holds_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weights": Payload(tmp_path / "run")}, tmp_path / "step-00000001.ckpt")

    with pytest.raises(CheckpointError, match="no whole save"):
        read_save(tmp_path / "step-00000001.ckpt")

    assert not (tmp_path / "run").exists()


def test_a_cut_save_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    DurableCheckpointIO().save_checkpoint({"weights": torch.rand(1000)}, path)
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(CheckpointError, match="remove it to go on from the one before"):
        read_save(path)


def test_a_bit_that_turned_is_noticed_wherever_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    weights = torch.rand(8)
    DurableCheckpointIO().save_checkpoint({"weights": weights}, path)
    whole = path.read_bytes()
    first = whole.index(weights.numpy().tobytes())

    for bit in range(8 * 4 * len(weights)):
        damaged = bytearray(whole)
        damaged[first + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged: its part archive/data/0"):
            read_save(path)


def test_a_full_disk_is_an_environment_fault_and_leaves_the_older_save(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    DurableCheckpointIO().save_checkpoint({"step": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(MachineError, match="nothing was changed"):
            DurableCheckpointIO().save_checkpoint({"weights": torch.rand(100_000)}, path)
        with pytest.raises(MachineError, match="nothing was changed"):
            checkpoint.save(WaveNet(WaveNetConfig()), tmp_path / "model", AudioConfig())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    assert read_save(path) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_saves_are_found_in_the_order_of_their_steps(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("step-00000100.ckpt", "step-99.ckpt", ".step-00000200.ckpt.tmp-1", "other.ckpt"):
        (folder / name).touch()

    assert [path.name for path in find_saves(tmp_path)] == ["step-99.ckpt", "step-00000100.ckpt"]


def trained_with_saves(run: Path, options: TrainerOptions, bits: dict[int, float]) -> list[int]:
    """Train 12 steps with these validations; return the steps whose saves are kept."""
    stop = StopFlag()
    updates = Updates(ProcessGroup(Launch()), stop)
    history = History(run, AudioConfig(), checkpoint.TrainingInfo(), None, 99, updates, after=None)

    class Validate(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            step = trainer.global_step
            if step in bits:
                history.valid.append((step, bits[step]))

    module = TrainingModule(WaveNet(CONFIG), OptimOptions(), max_steps=12)
    fit(module, run, 12, Validate(), Saves(run, options, history, stop))
    return [step_of(save) for save in find_saves(run)]


@pytest.mark.parametrize(
    ("bits", "save_best", "kept"),
    [
        ({2: 5.0, 3: 4.0, 7: 4.5}, True, [3, 8, 12]),  # step 3 is due for its validation alone
        ({2: 5.0, 3: 4.0, 7: 4.5}, False, [8, 12]),
        ({2: 5.0, 3: 4.0, 7: 4.0}, True, [7, 8, 12]),  # of equals the latest
        ({2: 5.0, 3: 4.0, 12: 3.0}, True, [8, 12]),
        ({2: torch.nan, 3: 4.0}, True, [3, 8, 12]),
        ({}, True, [8, 12]),
    ],
)
def test_the_last_saves_and_that_of_the_best_validation_are_kept(
    tmp_path: Path, bits: dict[int, float], save_best: bool, kept: list[int]
) -> None:
    options = TrainerOptions(save_every_n_steps=4, save_last_k=2, save_best=save_best)

    assert trained_with_saves(tmp_path, options, bits) == kept


def test_a_save_that_was_made_is_told_after_it_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoints").write_text("a file is in the way")

    with caplog.at_level("INFO", "wavenet"), pytest.raises(MachineError):
        trained_with_saves(tmp_path, TrainerOptions(save_every_n_steps=2), {})

    assert "saved step" not in caplog.text
    assert caplog.text.count("tries again at the next save") == 2
