"""Saves of a run: when they are made, how they reach the disk, which are kept, which one counts.

A save is Lightning's checkpoint, for going on with one's own run and nothing else. It is written
atomically and durably, named by its step, and read back as tensors and plain types only.
"""

import io
import logging
import re
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from wavenet.errors import CheckpointError, EnvironmentFault, printable
from wavenet.files import atomic_file
from wavenet.training.signals import StopFlag

FOLDER = "checkpoints"
NAME = re.compile(r"step-(\d+)\.ckpt")
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
        CheckpointError: It is damaged, or holds more than tensors and plain types.
    """
    try:
        contents: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:
        raise CheckpointError(
            f"{printable(path)} is no whole save ({type(error).__name__}): remove it to go on from "
            "the one before"
        ) from error
    return contents


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
    """Saves every so many updates, at the last one, and when a signal asks for the end.

    Args:
        run: The run's folder.
        every: Updates between saves.
        keep: Saves that are kept.
        stop: Set when the update that was just made is to be saved, and training to stop.
        retries: Saves in a row that may fail, the disk being full, before training stops.
    """

    def __init__(self, run: Path, every: int, keep: int, stop: StopFlag, retries: int = 3) -> None:
        self.folder = run / FOLDER
        self.run = run
        self.every = every
        self.keep = keep
        self.stop = stop
        self.retries = retries
        self.failures = 0
        self.seen = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note where training starts."""
        self.seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any
    ) -> None:
        """Save after an update, where one is due."""
        step = trainer.global_step
        if step == self.seen:
            return  # a batch whose gradients only add up
        self.seen = step
        if step % self.every == 0 or step == trainer.max_steps or self.stop:
            self._save(trainer, step)
        if self.stop:
            trainer.should_stop = True

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        try:
            trainer.save_checkpoint(self.folder / f"step-{step:08d}.ckpt")
        except EnvironmentFault as fault:
            self.failures += 1
            last_chance = self.stop or step == trainer.max_steps or self.failures >= self.retries
            if last_chance:
                raise
            log.warning("warning: %s Training goes on and tries again at the next save.", fault)
            return
        self.failures = 0
        log.info("saved step %d", step)
        for old in find_saves(self.run)[: -self.keep] if trainer.is_global_zero else []:
            old.unlink(missing_ok=True)
