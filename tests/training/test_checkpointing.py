import os
import resource
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.small import build_loop, new_state, noise_batches
from wavenet import checkpoint
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.training.checkpointing import (
    DamagedCheckpoint,
    checkpoint_step,
    find_checkpoints,
    newest_intact,
    read_checkpoint,
    write_checkpoint,
)
from wavenet.training.loader import SegmentLoader
from wavenet.training.state import TrainingState
from wavenet.utils.errors import CheckpointError, MachineError


class Payload:
    """What a hostile pickle would do on loading."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    contents = {"weights": torch.rand(3), "step": 7, "history": [(1, 2.5)]}

    write_checkpoint(contents, tmp_path / "step-00000007.ckpt")
    found = read_checkpoint(tmp_path / "step-00000007.ckpt")

    assert torch.equal(found.pop("weights"), contents.pop("weights"))  # type: ignore[arg-type]
    assert found == contents


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weights": Payload(tmp_path / "run")}, tmp_path / "step-00000001.ckpt")

    with pytest.raises(CheckpointError, match="is truncated or corrupt"):
        read_checkpoint(tmp_path / "step-00000001.ckpt")

    assert not (tmp_path / "run").exists()


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    write_checkpoint({"weights": torch.rand(1000)}, path)
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(DamagedCheckpoint, match="step-00000001.ckpt is truncated or corrupt"):
        read_checkpoint(path)


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))

    with pytest.raises(DamagedCheckpoint, match="is truncated or corrupt"):
        read_checkpoint(path)


def write_run(run: Path, steps: tuple[int, ...] = (1, 2, 3)) -> list[Path]:
    """Write a checkpoint of each step, and return their paths."""
    paths = [run / "checkpoints" / f"step-{step:08d}.ckpt" for step in steps]
    for step, path in zip(steps, paths, strict=True):
        write_checkpoint({"step": step, "weights": torch.full((1000,), float(step))}, path)
    return paths


def flip(data: bytes) -> bytes:
    """Return `data` with a bit of the weights flipped."""
    at = data.index(torch.full((9,), 3.0).numpy().tobytes())
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:1000], flip, lambda data: b"", lambda data: bytes(len(data))],
    ids=["truncated", "flipped bit", "empty", "zeros"],
)
def test_a_damaged_newest_checkpoint_is_set_aside_for_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    newest = write_run(tmp_path)[-1]
    damaged = damage(newest.read_bytes())
    newest.write_bytes(damaged)

    found = newest_intact(tmp_path)

    assert found is not None
    assert (found[0].name, found[1]["step"]) == ("step-00000002.ckpt", 2)
    assert newest.with_name("step-00000003.ckpt.damaged").read_bytes() == damaged
    assert [checkpoint_step(path) for path in find_checkpoints(tmp_path)] == [1, 2]
    assert "step-00000003.ckpt" in caplog.text
    assert "it is kept as step-00000003.ckpt.damaged" in caplog.text
    assert "continues from the one before, step-00000002.ckpt" in caplog.text


def test_damaged_checkpoints_keep_their_names_if_none_is_intact(tmp_path: Path) -> None:
    paths = write_run(tmp_path)
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1000])

    for _ in range(2):  # a restart must not begin from step 0
        with pytest.raises(CheckpointError, match="all 3 training checkpoints of .* are damaged"):
            newest_intact(tmp_path)

    assert find_checkpoints(tmp_path) == paths


def test_a_checkpoint_that_cannot_be_opened_is_not_set_aside(tmp_path: Path) -> None:
    newest = write_run(tmp_path)[-1]
    newest.unlink()
    newest.mkdir()

    with pytest.raises(MachineError, match="cannot read .*step-00000003.ckpt"):
        newest_intact(tmp_path)

    assert newest.is_dir()


def test_a_flipped_bit_is_detected_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    weights = torch.rand(8)
    write_checkpoint({"weights": weights}, path)
    intact = path.read_bytes()
    first = intact.index(weights.numpy().tobytes())

    for bit in range(8 * 4 * len(weights)):
        damaged = bytearray(intact)
        damaged[first + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="the checksum of archive/data/0 differs"):
            read_checkpoint(path)


def test_a_full_disk_raises_and_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.ckpt"
    write_checkpoint({"step": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(MachineError, match="nothing was changed"):
            write_checkpoint({"weights": torch.rand(100_000)}, path)
        with pytest.raises(MachineError, match="nothing was changed"):
            checkpoint.save(WaveNet(WaveNetConfig()), tmp_path / "model", AudioConfig())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    assert read_checkpoint(path) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_checkpoints_are_found_in_the_order_of_their_steps(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("step-00000100.ckpt", "step-99.ckpt", ".step-00000200.ckpt.tmp-1", "other.ckpt"):
        (folder / name).touch()

    assert [path.name for path in find_checkpoints(tmp_path)] == [
        "step-99.ckpt",
        "step-00000100.ckpt",
    ]


def train_with_validations(run: Path, bits: dict[int, float], **options: int | bool) -> list[int]:
    """Train 12 steps with these validations; return the steps whose checkpoints are kept."""

    def validate(state: TrainingState) -> None:
        if state.step in bits:
            loop.validation.history.val.append((state.step, bits[state.step]))

    loop = build_loop(run, new_state(), validate, max_steps=12, val_every_n_steps=99, **options)
    # The validation at the end, which every run has, is none of those
    loop.validation.run_if_due = lambda state: None  # type: ignore[method-assign]
    loop.run()
    return [checkpoint_step(path) for path in find_checkpoints(run)]


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
def test_the_last_k_and_the_best_checkpoint_are_kept(
    tmp_path: Path, bits: dict[int, float], save_best: bool, kept: list[int]
) -> None:
    found = train_with_validations(
        tmp_path, bits, save_every_n_steps=4, save_last_k=2, save_best=save_best
    )

    assert found == kept


def test_a_checkpoint_is_logged_only_after_it_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "checkpoints").write_text("a file is in the way")

    with caplog.at_level("INFO", "wavenet"), pytest.raises(MachineError):
        train_with_validations(tmp_path, {}, save_every_n_steps=2)

    assert "saved step" not in caplog.text
    assert caplog.text.count("tries again at the next save") == 2


def test_the_first_checkpoint_is_early_and_a_model_lies_beside_it(tmp_path: Path) -> None:
    """A model to listen to is there before the first validation, at every checkpoint."""
    found = {}

    def look(state: TrainingState) -> None:
        model = tmp_path / "model"
        if state.step >= 100:
            found[state.step] = checkpoint.load(model).training.steps if model.exists() else None

    options = {"save_every_n_steps": 250, "val_every_n_steps": 250, "max_steps": 103}
    loop = build_loop(tmp_path, new_state(), look, **options)
    loop.loader = SegmentLoader(2 * noise_batches())  # type: ignore[arg-type]
    loop.run()

    assert (found[100], found[101], found[103]) == (None, 100, 103)
    assert [checkpoint_step(path) for path in find_checkpoints(tmp_path)] == [100, 103]
