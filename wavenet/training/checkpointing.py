"""Saves of a run: when they are made, how they reach the disk, which are kept, which one counts.

A save is Lightning's checkpoint, for going on with one's own run and nothing else. It is written
atomically and durably, named by its step, and read back as tensors and plain types only.
"""

import io
import logging
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from wavenet.training.module import TrainingModule
from wavenet.training.options import TrainerOptions
from wavenet.training.signals import StopFlag
from wavenet.training.validation import History
from wavenet.utils.errors import CheckpointError, MachineError, printable
from wavenet.utils.files import atomic_file

FOLDER = "checkpoints"
NAME = re.compile(r"step-(\d+)\.ckpt")
PARTS = ("state_dict", "callbacks", "global_step", "random_states", "threads", "data", "skipped")
log = logging.getLogger("wavenet")


class DurableCheckpointIO(CheckpointIO):
    """Lightning's checkpoints through `atomic_file`, and back without executing anything."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`; after the return it has survived a power cut."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)  # not to the file: of a full disk it says nothing of use
        with atomic_file(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain types; anything else in it is refused."""
        return read_save(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that is no longer kept."""
        Path(path).unlink(missing_ok=True)


def read_save(path: Path) -> dict[str, Any]:
    """Return a save's contents.

    Raises:
        CheckpointError: It is damaged, down to a bit, or holds more than tensors and plain types.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()  # against their checksums, which torch.load leaves alone
        contents = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:
        raise _unusable(path, f"is no whole save ({type(error).__name__})") from error
    if damaged is not None:
        raise _unusable(path, f"is damaged: its part {printable(damaged)} has another checksum")
    if not isinstance(contents, dict):
        raise _unusable(path, "is no save of a run")
    found: dict[str, Any] = contents
    return found


def read_save_of(path: Path, module: TrainingModule, history: History) -> dict[str, Any]:
    """Return the contents of a save that fits a run.

    Raises:
        CheckpointError: It is damaged, or of another run.
    """
    contents = read_save(path)
    if not contents.keys() >= set(PARTS):
        raise _unusable(path, "is no save of a run")
    own, saved = _shapes(module.state_dict()), _shapes(contents["state_dict"])
    for name in {**own, **saved}:
        wanted, found = own.get(name, "nothing"), saved.get(name, "nothing")
        if wanted != found:
            reason = f"{printable(name)} is {found} in it, wanted {wanted}"
            raise _unusable(path, f"is of another run ({reason})")
    if history.state_key not in contents["callbacks"]:
        raise _unusable(path, "is of another run (it has no history)")
    return contents


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _unusable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{printable(path)} {reason}: remove it to go on from the one before")


def find_saves(run: Path) -> list[Path]:
    """Return the saves of a run, oldest first."""
    saves = [path for path in (run / FOLDER).glob("step-*.ckpt") if NAME.fullmatch(path.name)]
    return sorted(saves, key=step_of)


def step_of(save: Path) -> int:
    """Return the number of updates before a save, from its name."""
    match = NAME.fullmatch(save.name)
    assert match is not None
    return int(match[1])


class Saves(pl.Callback):
    """Saves every so many updates, at the best validation, at the end, and when a signal asks.

    Args:
        run: The run's folder.
        options: How often, and which saves are kept.
        history: Knows the best validation; it must come before among the callbacks.
        stop: Set when the update that was just made is to be saved, and training to stop.
        retries: Saves in a row that may fail, the disk being full, before training stops.
    """

    def __init__(
        self, run: Path, options: TrainerOptions, history: History, stop: StopFlag, retries: int = 3
    ) -> None:
        self.folder = run / FOLDER
        self.run = run
        self.options = options
        self.history = history
        self.team = history.team
        self.stop = stop
        self.retries = retries
        self.failures = 0
        self.seen = 0

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Add a validation that was made up for to the save of its step."""
        step = self.history.made_up
        if step is not None:
            self._attempt(step, self._amend, last_chance=False)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note where training starts."""
        self.seen = trainer.global_step
        if self.stop:
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any
    ) -> None:
        """Save after an update, where one is due."""
        step = trainer.global_step
        if step == self.seen:
            return  # a batch whose gradients only add up
        self.seen = step
        last = bool(self.stop) or step == trainer.max_steps
        best = self.options.save_best and step == self.history.best
        if step % self.options.save_every_n_steps == 0 or best or last:
            assert isinstance(module, TrainingModule)
            module.check_finite()
            self._attempt(step, trainer.save_checkpoint, last_chance=last)
        if self.stop:
            trainer.should_stop = True

    def _attempt(self, step: int, write: Callable[[Path], None], *, last_chance: bool) -> None:
        try:
            write(self.folder / f"step-{step:08d}.ckpt")
        except MachineError as fault:
            self.failures += 1
            if last_chance or self.failures >= self.retries:
                raise
            log.warning("warning: %s Training goes on and tries again at the next save.", fault)
            return
        self.failures = 0
        log.info("saved step %d", step)
        if self.team.rank == 0:
            self._remove_old()

    def _amend(self, save: Path) -> None:
        self.team.share(lambda: amend(save, self.history))

    def _remove_old(self) -> None:
        """Remove the saves that are neither among the last nor that of the best validation."""
        saves = find_saves(self.run)
        bits = {step: bits for step, bits in self.history.valid if math.isfinite(bits)}
        known = [save for save in saves if step_of(save) in bits]
        best = min(known, key=lambda save: (bits[step_of(save)], -step_of(save)), default=None)
        for save in saves[: -self.options.save_last_k]:
            if save != best or not self.options.save_best:
                save.unlink(missing_ok=True)


def amend(save: Path, history: History) -> None:
    """Put a history in the place of the one that a save holds."""
    contents = read_save(save)
    contents["callbacks"][history.state_key] = history.state_dict()
    DurableCheckpointIO().save_checkpoint(contents, save)
