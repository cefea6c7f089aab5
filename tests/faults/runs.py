"""The training runs of the fault tests, and how two of them are compared, bit by bit."""

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.faults.processes import Child, Forks
from wavenet import checkpoint
from wavenet.training.checkpointing import checkpoint_step, find_checkpoints, read_checkpoint
from wavenet.utils.errors import WavenetError
from wavenet.utils.files import remove_leftovers

STEPS = 20
TRAIN = (
    "recipe=folder",
    "model=tiny",
    "model.dropout=0.1",
    "audio.sample_rate=8000",
    "data.valid_fraction=0.3",
    "optim.lr=0.01",
    "optim.warmup_steps=5",
    "optim.lr_schedule=cosine",
    "optim.ema_decay=0.9",
    "trainer.device=cpu",
    f"trainer.max_steps={STEPS}",
    "trainer.global_batch_size=2",
    "trainer.segment_length=100",
    "trainer.accumulate_grad_batches=2",
    "trainer.val_every_n_steps=5",
    "trainer.save_every_n_steps=3",
    "trainer.preview_seconds=0",
    "evaluation.sample_seconds=0",
)


@dataclass(frozen=True)
class Reference:
    """A run that nothing interrupted.

    Attributes:
        run: Its folder.
        arguments: Of the command line that started it, without its folder.
        seconds: How long it took.
    """

    run: Path
    arguments: tuple[str, ...]
    seconds: float


def reference_run(forks: Forks, recordings: Path, folder: Path) -> Reference:
    """Train twice without a fault; the second run has its data ready, and is timed."""
    arguments = (*TRAIN, f"data.root={recordings}", f"data.processed_dir={folder / 'prepared'}")
    for name in ("first", "run"):
        started = time.monotonic()
        child = forks.start("train", folder, *arguments, f"run_dir={name}")
        assert child.wait() == 0, child.output()
        seconds = time.monotonic() - started
    assert differences(folder / "run", folder / "first") == []
    return Reference(folder / "run", arguments, seconds)


def start_or_resume(
    forks: Forks, reference: Reference, run: Path, *words: str, **how: Any
) -> Child:
    """Start a run in `run`, or resume it, as a user would."""
    if (run / "run.json").exists():
        arguments = (f"resume={run}", *words)
    else:
        arguments = (*reference.arguments, f"run_dir={run}", *words)
    return forks.start("train", run.parent, *arguments, **how)


def acknowledged(output: str) -> int:
    """Return the step of the last checkpoint that a run has logged, 0 for none."""
    return max(map(int, re.findall(r"^saved step (\d+)$", output, re.MULTILINE)), default=0)


def broken(run: Path) -> list[str]:
    """Return the errors in reading all files that have no temporary name."""
    if (run / "run.json").exists():
        json.loads((run / "run.json").read_text())
    paths = find_checkpoints(run)
    found = [fault for path in paths for fault in _fault(partial(_read, path))]
    exported = False
    if paths:
        history = read_checkpoint(paths[-1])["history"]
        exported = bool(history["val"]) and not history["export_failed"]
    if (run / "model").exists() or list(run.glob(".model.old-*")) or exported:
        copy = run.with_name(f"{run.name}.checked")
        shutil.copytree(run, copy)
        remove_leftovers(copy, "model")
        found += _fault(partial(checkpoint.load, copy / "model"))
        shutil.rmtree(copy)
    return found


def _read(path: Path) -> None:
    assert read_checkpoint(path)["step"] == checkpoint_step(path)


def _fault(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except WavenetError as error:
        return [str(error)]
    return []


def newest(run: Path) -> int:
    """Return the step of the newest checkpoint, 0 for none."""
    paths = find_checkpoints(run)
    return checkpoint_step(paths[-1]) if paths else 0


def temporary(folder: Path) -> list[str]:
    """Return the temporary files and folders that stayed."""
    return [
        str(p.relative_to(folder)) for kind in ("tmp", "old") for p in folder.rglob(f".*.{kind}-*")
    ]


def differences(one: Path, other: Path) -> list[str]:
    """Return where two finished runs differ: in their last checkpoints, or in the model."""
    mine, yours = (read_checkpoint(find_checkpoints(run)[-1]) for run in (one, other))
    found = unequal(mine, yours, "checkpoint")
    names = ("model/model.safetensors", "model/config.json")
    pairs = {name: [(run / name).read_bytes() for run in (one, other)] for name in names}
    return found + [name for name, (first, second) in pairs.items() if first != second]


def unequal(one: Any, other: Any, where: str) -> list[str]:
    """Return where the contents of two checkpoints differ; `where` is the name of the contents."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) and one.dtype == other.dtype else [where]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [w for key in one for w in unequal(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [w for i, pair in pairs for w in unequal(*pair, f"{where}.{i}")]
    return [] if one == other else [f"{where}: {one!r} is not {other!r}"]
