"""Teams of processes on one machine: how they agree, and that they train as one would."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from tests.teams import (
    TRAIN,
    Member,
    act_together,
    assert_same_bits,
    free_port,
    last_save,
    slurm_environment,
    torchrun_environment,
    train_together,
)
from tests.training.small import CONFIG
from wavenet.checkpoint import TrainingInfo
from wavenet.config import AudioConfig
from wavenet.model import WaveNet
from wavenet.training.distributed.gradient_sync import Updates
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.module import TrainingModule
from wavenet.training.options import OptimOptions
from wavenet.training.signals import StopFlag
from wavenet.training.validation import History
from wavenet.utils.errors import DataError

pytestmark = pytest.mark.slow
SHORT = (
    "trainer.max_steps=10",
    "trainer.save_every_n_steps=5",
    "trainer.val_every_n_steps=5",
    "optim.eps=1e-3",  # else Adam makes much of how a gradient is rounded that is nearly 0
)
THREE = (
    *("model.dropout=0.1", "trainer.global_batch_size=6", "trainer.max_steps=300"),
    *(
        "trainer.save_every_n_steps=50",
        "trainer.val_every_n_steps=100",
        "trainer.save_last_k=10",
        "run_dir=run",
    ),
)


def gathered(team: ProcessGroup) -> object:
    return [part.tolist() for part in team.gather(torch.tensor([team.rank, 7]))]


def averaged(team: ProcessGroup) -> object:
    tensors = [torch.full((2, 1), float(team.rank)), torch.tensor([3.0 * team.rank])]
    team.average(tensors)
    return [tensor.tolist() for tensor in tensors]


def slowly_shared(team: ProcessGroup) -> object:
    def slow() -> str:
        time.sleep(2.5 * team.timeout)
        return f"done by {team.rank}"

    return team.share(slow)


def badly_shared(team: ProcessGroup) -> object:
    def fail() -> None:
        raise DataError("a.wav is cut")

    return team.share(fail)


def stopped_while_shared(team: ProcessGroup) -> object:
    if team.rank == 0:
        time.sleep(4 * team.timeout)  # without a sign of life, as one who is stopped
        return None
    return team.share(lambda: "never")


def left_in_the_preview(team: ProcessGroup) -> object:
    """A signal comes to process 0, which alone plays the preview of a validation."""
    updates = Updates(team, StopFlag())

    def preview(*args: object) -> None:
        updates.asked.signal = signal.SIGTERM
        updates.asked.look()

    about = AudioConfig(sample_rate=8000), TrainingInfo()
    history = History(Path("run"), *about, None, 1, updates, preview)
    history.pending = 5
    module = TrainingModule(WaveNet(CONFIG), OptimOptions(), 5, team=team)
    history.on_fit_start(pl.Trainer(accelerator="cpu", logger=False), module)
    return updates.stop.signal, history.pending, Path("run").exists()


def test_processes_give_their_parts_in_order(tmp_path: Path) -> None:
    assert act_together(3, gathered, 20, tmp_path) == ["[[0, 7], [1, 7], [2, 7]]"] * 3


def test_each_process_has_the_mean_of_all(tmp_path: Path) -> None:
    assert act_together(3, averaged, 20, tmp_path) == ["[[[1.0], [1.0]], [3.0]]"] * 3


def test_work_of_process_0_may_take_longer_than_the_timeout(tmp_path: Path) -> None:
    assert act_together(3, slowly_shared, 1, tmp_path) == ["done by 0"] * 3


def test_an_error_of_process_0_is_raised_in_all_and_told_by_it_alone(tmp_path: Path) -> None:
    said = act_together(3, badly_shared, 20, tmp_path)

    assert said == [f"DataError {told} a.wav is cut" for told in (False, True, True)]


def test_a_process_without_a_sign_of_life_is_lost_after_the_timeout(tmp_path: Path) -> None:
    _, said = act_together(2, stopped_while_shared, 1, tmp_path)

    assert said.startswith("PeerLostError False process 1 of 2 lost another")
    assert "trainer.ddp_timeout_seconds=1" in said


def test_a_signal_in_the_preview_of_process_0_stops_all_and_the_validation_is_owed(
    tmp_path: Path,
) -> None:
    said = act_together(2, left_in_the_preview, 20, tmp_path)

    assert said == [str((signal.SIGTERM, 5, False))] * 2


@pytest.fixture(scope="module")
def alone(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight crops an update, in one process."""
    folder = tmp_path_factory.mktemp("alone")
    (done,) = train_together(folder, 1, *TRAIN, *SHORT, f"data.root={recordings}", "run_dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize(("size", "accumulate"), [(1, 4), (4, 1), (2, 2)])
def test_however_an_update_is_shared_out_the_curves_are_the_same(
    alone: Path, recordings: Path, tmp_path: Path, size: int, accumulate: int
) -> None:
    arguments = (
        f"data.root={recordings}",
        f"trainer.accumulate_grad_batches={accumulate}",
        "run_dir=run",
    )
    environment = slurm_environment if size == 4 else torchrun_environment

    done = train_together(tmp_path, size, *TRAIN, *SHORT, *arguments, environment=environment)

    assert [one.returncode for one in done] == [0] * size, done
    assert all(not one.stderr for one in done[1:]), "process 0 alone tells what goes on"
    expected, found = last_save(alone), last_save(tmp_path / "run")
    assert len(found["train"]) == 10
    torch.testing.assert_close(found["train"], expected["train"], rtol=1e-5, atol=0)
    torch.testing.assert_close(found["valid"], expected["valid"], rtol=1e-5, atol=0)
    for name, value in expected.items():
        if name.startswith(("model.", "average.")):
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def three(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three processes with dropout, not interrupted."""
    folder = tmp_path_factory.mktemp("three")
    done = train_together(folder, 3, *TRAIN, *THREE, f"data.root={recordings}")
    assert [one.returncode for one in done] == [0] * 3, done
    return folder


def test_a_signal_to_one_process_stops_all_and_the_same_command_goes_on_to_the_same_bits(
    three: Path, recordings: Path, tmp_path: Path
) -> None:
    arguments, port = (*TRAIN, *THREE, f"data.root={recordings}"), free_port()
    members = [
        Member(tmp_path, torchrun_environment(rank, 3, port, "7"), arguments) for rank in range(3)
    ]
    run = tmp_path / "run"
    while not list(run.glob("checkpoints/*.ckpt")) and members[1].process.is_alive():
        time.sleep(0.01)

    os.kill(members[1].process.pid or 0, signal.SIGTERM)
    done = [member.done() for member in members]

    assert [one.returncode for one in done] == [143] * 3, done
    assert "wavenet-train resume=run" in done[0].stdout
    assert not done[1].stdout
    assert max(run.glob("checkpoints/*.ckpt")).name < "step-00000300.ckpt"
    again = train_together(tmp_path, 3, *arguments)
    assert [one.returncode for one in again] == [0] * 3, again
    assert "was begun by this launch" in again[0].stderr
    assert_same_bits(three / "run", run)


def test_a_launch_goes_on_with_its_own_run_and_no_other(three: Path, recordings: Path) -> None:
    arguments = (*TRAIN, *THREE, f"data.root={recordings}")
    run = shutil.copytree(three / "run", three / "copy" / "run").parent

    finished = train_together(run, 3, *arguments)
    another = train_together(run, 3, *arguments, name="8")
    changed = train_together(run, 3, *arguments, "seed=1")

    assert [one.returncode for one in finished] == [0] * 3, finished
    assert "run is finished" in finished[0].stderr
    for refused in (another, changed):
        assert [one.returncode for one in refused] == [2] * 3, refused
        assert "run_dir run is not empty" in refused[0].stderr
        assert not refused[1].stderr


def test_another_number_of_processes_goes_on_with_a_warning(three: Path) -> None:
    run = shutil.copytree(three / "run", three / "fewer" / "run").parent

    done = train_together(run, 2, "resume=run", "trainer.max_steps=310")

    assert [one.returncode for one in done] == [0] * 2, done
    assert "another number of processes than before (3, now 2)" in done[0].stderr
    assert len(last_save(run / "run")["train"]) == 310


@pytest.mark.parametrize("held_out", [0, 1])
def test_there_may_be_fewer_clips_and_windows_than_processes(
    recordings: Path, tmp_path: Path, held_out: int
) -> None:
    (tmp_path / "few").mkdir()
    for index in range(1 + held_out):
        shutil.copy(recordings / f"tone-{index}.wav", tmp_path / "few")
    arguments = (*TRAIN, "trainer.max_steps=2", "trainer.global_batch_size=3", "data.root=few")
    shares = ("data.test_fraction=0", f"data.valid_fraction={0.5 * held_out}")

    done = train_together(tmp_path, 3, *arguments, *shares)

    assert [one.returncode for one in done] == [0] * 3, done
    assert len(last_save(tmp_path / "runs" / "folder")["valid"]) == held_out


def test_a_clip_that_one_process_cannot_read_ends_all_with_its_reason(
    three: Path, recordings: Path, tmp_path: Path
) -> None:
    arguments = (*TRAIN, f"data.root={recordings}", "trainer.global_batch_size=2")
    train_together(tmp_path, 1, *arguments, "trainer.max_steps=1", "run_dir=first")
    clips = sorted(tmp_path.rglob("*.wav"))
    for clip in clips[:2]:
        clip.write_bytes(bytes(clip.stat().st_size))

    done = train_together(tmp_path, 2, *arguments, "run_dir=second")

    codes = {one.returncode for one in done}
    assert 3 in codes, done
    assert codes <= {3, 5}
    assert any("DataError" in one.stderr and ".wav" in one.stderr for one in done)
    assert all("Traceback" not in one.stderr for one in done)


def test_what_cannot_be_shared_out_is_said_once(recordings: Path, tmp_path: Path) -> None:
    done = train_together(tmp_path, 3, *TRAIN, f"data.root={recordings}")

    assert [one.returncode for one in done] == [2] * 3
    assert "trainer.global_batch_size=8 is to be shared out over 3 processes" in done[0].stderr
    assert not done[1].stderr
    assert not (tmp_path / "runs").exists()
