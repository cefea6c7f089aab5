"""Training checkpoints: when they are written, how, which are kept, and how they are read.

A training checkpoint continues one's own run and serves nothing else; what is shared is a model
directory (`wavenet.checkpoint`). It is a dictionary of tensors and plain types, written atomically
and durably under the number of its step.
"""

import contextlib
import io
import logging
import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from wavenet.training.distributed.gradient_sync import GradientSync
from wavenet.training.options import TrainerOptions
from wavenet.training.state import TrainingState
from wavenet.training.validation import History
from wavenet.utils.errors import CheckpointError, MachineError, is_out_of_memory, listed, printable
from wavenet.utils.files import atomic_file

CHECKPOINTS_DIR = "checkpoints"
FILE_NAME = re.compile(r"step-(\d+)\.ckpt")
KEYS = (
    *("step", "model", "ema_model", "optimizer", "skipped", "rng_states", "num_threads"),
    *("history", "data_digest"),
)
FIRST_CHECKPOINT_STEP = 100  # before the first of `save_every_n_steps`
MAX_FAILED_WRITES = 3  # in a row, the disk being full
log = logging.getLogger("wavenet")


def write_checkpoint(contents: dict[str, Any], path: Path) -> None:
    """Write `contents` to `path`; after the return it has survived a power cut.

    Raises:
        MachineError: The disk is full, or the folder cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(contents, buffer)  # not to the file: torch does not say that a disk is full
    with atomic_file(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


class DamagedCheckpoint(CheckpointError):
    """A training checkpoint is truncated or corrupt: an earlier one may serve."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's contents, tensors on the CPU; nothing in the file is executed.

    Raises:
        DamagedCheckpoint: It is truncated or corrupt, or holds more than tensors and plain types.
        CheckpointError: It holds something else than a dictionary.
        MachineError: The file cannot be opened, or memory is short.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise MachineError(f"cannot read {printable(path)}: {error.strerror}") from error
        try:
            contents = _verified_contents(file)
        except Exception as error:
            if is_out_of_memory(error):
                raise MachineError(f"memory is too short for {printable(path)}") from error
            reason = printable(error) if type(error) is ValueError else type(error).__name__
            raise DamagedCheckpoint(
                f"{printable(path)} is truncated or corrupt ({reason})"
            ) from error
    if not isinstance(contents, dict):
        raise _unusable(path, "is not a training checkpoint")
    found: dict[str, Any] = contents
    return found


def _verified_contents(file: BinaryIO) -> object:
    with zipfile.ZipFile(file) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which ours are not")  # zeros without end
        damaged = archive.testzip()  # by checksums, which torch.load does not test
    if damaged is not None:
        raise ValueError(f"the checksum of {printable(damaged)} differs")
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251


def newest_intact(run: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint of a run that can be read, and its contents.

    Newer ones that are damaged get the suffix `.damaged`, each with a warning. They keep their
    names if all are damaged: a run never starts from step 0 by itself.

    Returns:
        `None` if there is no checkpoint.

    Raises:
        CheckpointError: All are damaged.
        MachineError: One cannot be read or renamed.
    """
    paths, damaged = find_checkpoints(run), []
    for path in reversed(paths):
        try:
            contents = read_checkpoint(path)
        except DamagedCheckpoint as error:
            damaged.append((path, str(error)))
            continue
        for other, reason in damaged:
            log.warning("warning: %s; it is kept as %s", reason, _set_aside(other).name)
        if damaged:
            log.warning("warning: the run continues from the one before, %s", path.name)
        return path, contents
    if damaged:
        raise CheckpointError(
            f"all {len(paths)} training checkpoints of {printable(run)} are damaged: start a new "
            f"run, with init={printable(run / 'model')} if that was exported"
            + listed([reason for _, reason in damaged])
        )
    return None


def check_contents(path: Path, contents: dict[str, Any], state: TrainingState) -> None:
    """Check that the contents of a checkpoint fit the run whose state is `state`.

    Raises:
        CheckpointError: They are of another run, or of no run.
    """
    kinds = {"step": int, "model": dict, "optimizer": dict, "history": dict, "rng_states": list}
    if not contents.keys() >= set(KEYS) or not all(
        isinstance(contents[key], kind) for key, kind in kinds.items()
    ):
        raise _unusable(path, "is not a training checkpoint")
    for part, model in (("model", state.model), ("ema_model", state.ema_model)):
        own = {} if model is None else _shapes(model.state_dict())
        saved = _shapes(contents[part] or {})
        for name in {**own, **saved}:
            expected, found = own.get(name, "absent"), saved.get(name, "absent")
            if expected != found:
                reason = f"{part}: {printable(name)} is {found} in it, expected {expected}"
                raise _unusable(path, f"is of another run ({reason})")
    if contents["history"].keys() != History().state_dict().keys():
        raise _unusable(path, "is of another run (it has no history)")


def read_run_checkpoint(path: Path, state: TrainingState) -> dict[str, Any]:
    """Return the contents of a checkpoint that fits the run whose state is `state`.

    Raises:
        CheckpointError: It is damaged, or of another run.
    """
    contents = read_checkpoint(path)
    check_contents(path, contents, state)
    return contents


def find_checkpoints(run: Path) -> list[Path]:
    """Return the training checkpoints of a run, oldest first."""
    paths = (run / CHECKPOINTS_DIR).glob("step-*.ckpt")
    return sorted((path for path in paths if FILE_NAME.fullmatch(path.name)), key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """Return the number of updates before a checkpoint, from its file name."""
    match = FILE_NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


@dataclass
class CheckpointManager:
    """Writes checkpoints when they are due, and removes those that are no longer kept.

    A checkpoint is due at `FIRST_CHECKPOINT_STEP`, every `save_every_n_steps`, at the best
    validation, at the end, and when training stops on a signal. A full disk is tolerated
    `MAX_FAILED_WRITES` - 1 times in a row.
    """

    run: Path  # the run's folder
    options: TrainerOptions  # how often, and which checkpoints are kept
    history: History  # part of each checkpoint
    sync: GradientSync  # the processes, and whether training stops
    data_digest: str = ""  # of the training data's manifest
    failed_writes: int = 0  # in a row, the disk being full

    def is_due(self, step: int, *, stop: bool) -> bool:
        """Return whether a checkpoint is due after `step` updates; `stop` if training stops."""
        best = self.options.save_best and step == self.history.best_step
        return stop or best or is_regular(step, self.options)

    def save_if_due(self, state: TrainingState, *, stop: bool) -> None:
        """Write a checkpoint after an update, if one is due; `stop` if training stops after it.

        Raises:
            ConfigError: Something in it is not finite; nothing is written.
            MachineError: The last checkpoint cannot be written, or several in a row could not.
        """
        if self.is_due(state.step, stop=stop):
            self.save(state, last=stop or state.step == self.options.max_steps)

    def save(self, state: TrainingState, *, last: bool) -> None:
        """Write a checkpoint; as the `last` one, raise what may be tried again for the others."""
        state.check_finite()
        contents = {
            **state.state_dict(self.sync.group),
            "history": self.history.state_dict(),
            "data_digest": self.data_digest,
        }
        self._attempt(state.step, lambda path: write_checkpoint(contents, path), last=last)

    def save_history(self, step: int) -> None:
        """Replace the history in the checkpoint of `step`, after a pending validation was run."""

        def write(path: Path) -> None:
            write_checkpoint({**read_checkpoint(path), "history": self.history.state_dict()}, path)

        self._attempt(step, write, last=False)

    def _attempt(self, step: int, write: Callable[[Path], None], *, last: bool) -> None:
        path = self.run / CHECKPOINTS_DIR / f"step-{step:08d}.ckpt"
        try:
            self.sync.group.run_on_rank_zero(lambda: write(path))
        except MachineError as error:
            self.failed_writes += 1
            if last or self.failed_writes >= MAX_FAILED_WRITES:
                raise
            log.warning("warning: %s Training continues and tries again at the next save.", error)
            return
        self.failed_writes = 0
        log.info("saved step %d", step)
        if self.sync.rank == 0:
            self._remove_old()

    def _remove_old(self) -> None:
        """Keep the last `save_last_k` checkpoints, and the one of the best validation."""
        paths = find_checkpoints(self.run)
        bits = {step: bits for step, bits in self.history.val if math.isfinite(bits)}
        ranks = [(bits[s], -s, path) for path in paths if (s := checkpoint_step(path)) in bits]
        best = min(ranks)[2] if ranks else None
        for path in paths[: -self.options.save_last_k]:
            if path != best or not self.options.save_best:
                path.unlink(missing_ok=True)


def is_regular(step: int, options: TrainerOptions) -> bool:
    """Return whether a checkpoint is due after `step` updates, whatever their results."""
    regular = FIRST_CHECKPOINT_STEP, options.max_steps
    return step in regular or step % options.save_every_n_steps == 0


def first_regular_step(options: TrainerOptions) -> int:
    """Return the first step at which `is_regular` holds."""
    return min(FIRST_CHECKPOINT_STEP, options.max_steps, options.save_every_n_steps)


def _shapes(tensors: Any) -> dict[str, Any]:
    """Return the shapes of a state dict by name; of what is none, its type."""
    if not isinstance(tensors, dict):
        return {"state_dict": type(tensors).__name__}
    return {
        name: tuple(getattr(tensor, "shape", ("no tensor",))) for name, tensor in tensors.items()
    }


def _set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is neither read nor written again."""
    kept = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(kept)
    except OSError as error:
        raise MachineError(f"cannot rename {printable(path)}: {error.strerror}") from error
    return kept


def _unusable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{printable(path)} {reason}: remove it to continue from the previous one"
    )
