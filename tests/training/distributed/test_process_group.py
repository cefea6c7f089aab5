"""Process groups on one machine: their collectives, and that they train as one process would."""

import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.process_groups import (
    TRAIN,
    assert_same_bits,
    free_port,
    last_checkpoint,
    run_in_group,
    slurm_environment,
    start_training,
    torchrun_environment,
    train_in_group,
)
from tests.training.small import build_loop, new_state, run_config
from tests.training.test_rehearsal import Interrupted
from tests.waiting import wait_until
from wavenet.checkpoint import TrainingInfo, save
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.training.checkpointing import find_checkpoints, read_checkpoint
from wavenet.training.distributed.gradient_sync import GradientSync
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.freeze import freeze, trainable
from wavenet.training.resume import load_last_checkpoint
from wavenet.training.signals import StopFlag
from wavenet.training.validation import History, Validation
from wavenet.utils.errors import DataError

pytestmark = pytest.mark.slow
SHORT = (
    "trainer.max_steps=10",
    "trainer.save_every_n_steps=5",
    "trainer.val_every_n_steps=5",
    "optim.eps=1e-3",  # or Adam amplifies the rounding of gradients near 0
)
THREE = (
    *("model.dropout=0.1", "trainer.global_batch_size=6", "trainer.max_steps=90"),
    *("trainer.save_every_n_steps=15", "trainer.val_every_n_steps=45"),
    *("trainer.save_last_k=10", "run_dir=run"),
)


def gather_ranks(group: ProcessGroup) -> object:
    return [part.tolist() for part in group.all_gather(torch.tensor([group.rank, 7]))]


def average_ranks(group: ProcessGroup) -> object:
    tensors = [torch.full((2, 1), float(group.rank)), torch.tensor([3.0 * group.rank])]
    group.all_reduce_mean(tensors)
    return [tensor.tolist() for tensor in tensors]


def average_gradients_of_a_frozen_model(group: ProcessGroup) -> object:
    model = new_state().model
    freeze(model, ("input", "stack"))
    for parameter in trainable(model):
        parameter.grad = torch.full_like(parameter, float(group.rank))
    GradientSync(group, StopFlag()).average_gradients(model.parameters())
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    frozen = [grad is None for name, grad in gradients.items() if not name.startswith("head")]
    return all(frozen), {float(grad.mean()) for grad in gradients.values() if grad is not None}


def run_slowly_on_rank_zero(group: ProcessGroup) -> object:
    def slow() -> str:
        time.sleep(1.5 * group.timeout)
        return f"done by {group.rank}"

    return group.run_on_rank_zero(slow)


def fail_on_rank_zero(group: ProcessGroup) -> object:
    def fail() -> None:
        raise DataError("a.wav is cut")

    return group.run_on_rank_zero(fail)


def wait_for_a_silent_process(group: ProcessGroup) -> object:
    if group.rank == 0:
        time.sleep(2 * group.timeout)  # without a heartbeat, like a stopped process
        return None
    return group.run_on_rank_zero(lambda: "never")


def interrupt_the_preview(group: ProcessGroup) -> object:
    """A signal reaches process 0, which alone runs the preview of a validation."""
    sync, history, run = GradientSync(group, StopFlag()), History(), Path("run")

    def preview(*args: object) -> None:
        sync.own_stop.signal = signal.SIGTERM
        sync.own_stop.raise_if_stopped()

    validation = Validation(run, run_config(), history, sync, TrainingInfo(), preview=preview)
    state = new_state()
    state.step = history.pending_validation = 5
    assert not validation.run_pending(state)
    return sync.stop.signal, history.pending_validation, run.exists()


def interrupt_the_rehearsal(group: ProcessGroup) -> object:
    """A signal reaches process 1 while all rehearse the first update."""
    loop = build_loop(Path("run"), new_state(), max_steps=3)
    loop.sync = GradientSync(group, StopFlag())
    if group.rank == 1:
        loop.objective = Interrupted(loop.objective, loop.sync.own_stop)  # type: ignore[assignment]
    loop.run()
    return loop.sync.stop.signal, loop.state.step


def load_past_a_damaged_checkpoint(group: ProcessGroup) -> object:
    state, history = new_state(), History()
    assert load_last_checkpoint(Path("run"), state, history, "", group)
    return state.step


def test_all_processes_go_on_from_the_checkpoint_before_a_damaged_one(tmp_path: Path) -> None:
    build_loop(tmp_path / "run", new_state(), max_steps=4, save_every_n_steps=1).run()
    newest = find_checkpoints(tmp_path / "run")[-1]
    newest.write_bytes(newest.read_bytes()[:-100])

    results = run_in_group(3, load_past_a_damaged_checkpoint, 20, tmp_path)

    assert results == ["3"] * 3
    names = sorted(path.name for path in newest.parent.iterdir())
    assert names == ["step-00000003.ckpt", "step-00000004.ckpt.damaged"]


def test_all_gather_returns_tensors_by_rank(tmp_path: Path) -> None:
    assert run_in_group(3, gather_ranks, 20, tmp_path) == ["[[0, 7], [1, 7], [2, 7]]"] * 3


def test_all_reduce_mean_returns_the_mean_everywhere(tmp_path: Path) -> None:
    assert run_in_group(3, average_ranks, 20, tmp_path) == ["[[[1.0], [1.0]], [3.0]]"] * 3


def test_gradients_that_are_not_frozen_are_averaged(tmp_path: Path) -> None:
    results = run_in_group(2, average_gradients_of_a_frozen_model, 20, tmp_path)

    assert results == ["(True, {0.5})"] * 2


def test_work_on_rank_zero_may_take_longer_than_the_timeout(tmp_path: Path) -> None:
    assert run_in_group(3, run_slowly_on_rank_zero, 3, tmp_path) == ["done by 0"] * 3


def test_an_error_on_rank_zero_is_raised_in_all_and_reported_once(tmp_path: Path) -> None:
    results = run_in_group(3, fail_on_rank_zero, 20, tmp_path)

    assert results == [f"DataError {elsewhere} a.wav is cut" for elsewhere in (False, True, True)]


def test_a_silent_process_is_lost_after_the_timeout(tmp_path: Path) -> None:
    _, results = run_in_group(2, wait_for_a_silent_process, 3, tmp_path)

    assert results.startswith("PeerLostError False process 1 of 2 lost another one")
    assert "trainer.ddp_timeout_seconds=3" in results


def test_a_signal_in_the_rehearsal_of_one_stops_all_before_the_first_update(tmp_path: Path) -> None:
    results = run_in_group(2, interrupt_the_rehearsal, 20, tmp_path)

    assert results == [str((signal.SIGTERM, 0))] * 2


def test_a_signal_in_the_preview_stops_all_and_the_validation_is_pending(
    tmp_path: Path,
) -> None:
    results = run_in_group(2, interrupt_the_preview, 20, tmp_path)

    assert results == [str((signal.SIGTERM, 5, False))] * 2


def test_all_processes_start_from_the_model_that_init_names(
    recordings: Path, tmp_path: Path
) -> None:
    config = WaveNetConfig(dilations=(1, 2), residual_channels=8, gate_channels=8)
    model = WaveNet(config)
    save(model, tmp_path / "base", AudioConfig(sample_rate=8000))
    options = (
        *(word for word in TRAIN if not word.startswith(("model=", "data.valid_fraction="))),
        *("trainer.max_steps=1", "data.valid_fraction=0.5"),  # a clip for each to validate
    )

    for size, folder in ((2, "run_dir=run"), (1, "run_dir=alone")):
        words = (*options, "init=base", f"data.root={recordings}", folder)
        done = train_in_group(tmp_path, size, *words)
        assert {one.returncode for one in done} == {0}, done

    start, alone = (
        read_checkpoint(find_checkpoints(tmp_path / name)[0]) for name in ("run", "alone")
    )
    expected = model.state_dict()
    assert start["step"] == 0
    assert all(torch.equal(tensor, expected[name]) for name, tensor in start["ema_model"].items())
    ((_, bits),) = alone["history"]["val"]
    assert start["history"]["val"] == [(0, pytest.approx(bits, abs=1e-6))]


@pytest.fixture(scope="module")
def single_run(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with eight segments an update, in one process."""
    folder = tmp_path_factory.mktemp("alone")
    (done,) = train_in_group(folder, 1, *TRAIN, *SHORT, f"data.root={recordings}", "run_dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.mark.parametrize(("size", "accumulate"), [(1, 4), (4, 1), (2, 2)])
def test_processes_and_accumulation_do_not_change_the_curves(
    single_run: Path, recordings: Path, tmp_path: Path, size: int, accumulate: int
) -> None:
    arguments = (
        f"data.root={recordings}",
        f"trainer.accumulate_grad_batches={accumulate}",
        "run_dir=run",
    )
    environment = slurm_environment if size == 4 else torchrun_environment

    done = train_in_group(tmp_path, size, *TRAIN, *SHORT, *arguments, environment=environment)

    assert [one.returncode for one in done] == [0] * size, done
    assert all(not one.stderr for one in done[1:]), "process 0 alone logs"
    expected, found = last_checkpoint(single_run), last_checkpoint(tmp_path / "run")
    assert len(found["train"]) == 10
    torch.testing.assert_close(found["train"], expected["train"], rtol=1e-5, atol=0)
    torch.testing.assert_close(found["val"], expected["val"], rtol=1e-5, atol=0)
    for name, value in expected.items():
        if name.startswith(("model.", "ema_model.")):
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def uninterrupted(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three processes with dropout, not interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = train_in_group(folder, 3, *TRAIN, *THREE, f"data.root={recordings}")
    assert [one.returncode for one in done] == [0] * 3, done
    return folder


def test_a_signal_to_one_process_stops_all_and_resuming_keeps_the_bits(
    uninterrupted: Path, recordings: Path, tmp_path: Path
) -> None:
    arguments, port = (*TRAIN, *THREE, f"data.root={recordings}"), free_port()
    processes = [
        start_training(tmp_path, torchrun_environment(rank, 3, port, "7"), *arguments)
        for rank in range(3)
    ]
    run = tmp_path / "run"
    wait_until(
        lambda: not processes[1].is_alive() or any(run.glob("checkpoints/*.ckpt")),
        "training wrote no checkpoint",
    )

    processes[1].signal(signal.SIGTERM)
    done = [process.wait() for process in processes]

    assert [one.returncode for one in done] == [143] * 3, done
    assert "wavenet-train resume=run" in done[0].stdout
    assert not done[1].stdout
    assert max(run.glob("checkpoints/*.ckpt")).name < "step-00000090.ckpt"
    again = train_in_group(tmp_path, 3, *arguments)
    assert [one.returncode for one in again] == [0] * 3, again
    assert "was started by this launch" in again[0].stderr
    assert_same_bits(uninterrupted / "run", run)


def test_a_launch_resumes_its_own_run_and_no_other(uninterrupted: Path, recordings: Path) -> None:
    arguments = (*TRAIN, *THREE, f"data.root={recordings}")
    run = shutil.copytree(uninterrupted / "run", uninterrupted / "copy" / "run").parent

    finished = train_in_group(run, 3, *arguments)
    another = train_in_group(run, 3, *arguments, name="8")
    changed = train_in_group(run, 3, *arguments, "seed=1")

    assert [one.returncode for one in finished] == [0] * 3, finished
    assert "run is finished" in finished[0].stderr
    for refused in (another, changed):
        assert [one.returncode for one in refused] == [2] * 3, refused
        assert "run_dir run is not empty" in refused[0].stderr
        assert not refused[1].stderr


def test_another_number_of_processes_resumes_with_a_warning(uninterrupted: Path) -> None:
    run = shutil.copytree(uninterrupted / "run", uninterrupted / "fewer" / "run").parent

    done = train_in_group(run, 2, "resume=run", "trainer.max_steps=95")

    assert [one.returncode for one in done] == [0] * 2, done
    assert "the number of processes changed since the checkpoint (3, now 2)" in done[0].stderr
    assert len(last_checkpoint(run / "run")["train"]) == 95


@pytest.mark.parametrize("held_out", [0, 1])
def test_fewer_clips_and_windows_than_processes_work(
    recordings: Path, tmp_path: Path, held_out: int
) -> None:
    (tmp_path / "few").mkdir()
    for index in range(1 + held_out):
        shutil.copy(recordings / f"tone-{index}.wav", tmp_path / "few")
    arguments = (*TRAIN, "trainer.max_steps=2", "trainer.global_batch_size=3", "data.root=few")
    fractions = ("data.test_fraction=0", f"data.valid_fraction={0.5 * held_out}")

    done = train_in_group(tmp_path, 3, *arguments, *fractions)

    assert [one.returncode for one in done] == [0] * 3, done
    assert len(last_checkpoint(tmp_path / "runs" / "folder")["val"]) == held_out


def test_a_clip_that_one_process_cannot_read_ends_all(recordings: Path, tmp_path: Path) -> None:
    arguments = (*TRAIN, f"data.root={recordings}", "trainer.global_batch_size=2")
    train_in_group(tmp_path, 1, *arguments, "trainer.max_steps=1", "run_dir=first")
    clips = sorted(tmp_path.rglob("*.wav"))
    for clip in clips[:2]:
        clip.write_bytes(bytes(clip.stat().st_size))

    done = train_in_group(tmp_path, 2, *arguments, "run_dir=second")

    codes = {one.returncode for one in done}
    assert 3 in codes, done
    assert codes <= {3, 5}
    assert any("DataError" in one.stderr and ".wav" in one.stderr for one in done)
    assert all("Traceback" not in one.stderr for one in done)


def test_a_batch_size_that_does_not_divide_is_reported_once(
    recordings: Path, tmp_path: Path
) -> None:
    done = train_in_group(tmp_path, 3, *TRAIN, f"data.root={recordings}")

    assert [one.returncode for one in done] == [2] * 3
    assert "trainer.global_batch_size=8 is divided over 3 processes" in done[0].stderr
    assert not done[1].stderr
    assert not (tmp_path / "runs").exists()
