import os
import resource
import signal
from pathlib import Path

import pytest
import torch

from wavenet import checkpoint
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.errors import CheckpointError, EnvironmentFault
from wavenet.model import WaveNet
from wavenet.training.saves import DurableCheckpointIO, find_saves, read_save


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


def test_a_full_disk_is_an_environment_fault_and_leaves_the_older_save(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    DurableCheckpointIO().save_checkpoint({"step": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(EnvironmentFault, match="nothing was changed"):
            DurableCheckpointIO().save_checkpoint({"weights": torch.rand(100_000)}, path)
        with pytest.raises(EnvironmentFault, match="nothing was changed"):
            checkpoint.save(tmp_path / "model", WaveNet(WaveNetConfig()), AudioConfig())
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
