"""The training runs that faults are done to, and how two of them are compared, to the bit."""

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
from wavenet.training.checkpointing import find_saves, read_save, step_of
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
class Whole:
    """A run that nothing interrupted.

    Attributes:
        run: Its folder.
        words: Of the command line that started it, without its folder.
        seconds: How long it took.
    """

    run: Path
    words: tuple[str, ...]
    seconds: float


def whole_run(forks: Forks, recordings: Path, folder: Path) -> Whole:
    """Train without a fault; of two runs, the second one's time, for its data are ready."""
    words = (*TRAIN, f"data.root={recordings}", f"data.processed_dir={folder / 'prepared'}")
    for name in ("first", "run"):
        started = time.monotonic()
        child = forks.start("train", folder, *words, f"run_dir={name}")
        assert child.wait() == 0, child.said()
        seconds = time.monotonic() - started
    assert differences(folder / "run", folder / "first") == []
    return Whole(folder / "run", words, seconds)


def go_on(forks: Forks, whole: Whole, run: Path, *words: str, **how: Any) -> Child:
    """Start a run in `run`, or go on with it, as a user would."""
    if (run / "run.json").exists():
        said = (f"resume={run}", *words)
    else:
        said = (*whole.words, f"run_dir={run}", *words)
    return forks.start("train", run.parent, *said, **how)


def acknowledged(said: str) -> int:
    """Return the step of the last save that a run has told of, 0 for none."""
    return max(map(int, re.findall(r"^saved step (\d+)$", said, re.MULTILINE)), default=0)


def broken(run: Path) -> list[str]:
    """Return what is not whole, of all that lies under a name that is no temporary one."""
    if (run / "run.json").exists():
        json.loads((run / "run.json").read_text())
    saves = find_saves(run)
    found = [fault for save in saves for fault in _fault(partial(_read, save))]
    exported = False
    if saves:
        history = read_save(saves[-1])["callbacks"]["History"]
        exported = bool(history["valid"]) and not history["owed"]
    if (run / "model").exists() or list(run.glob(".model.old-*")) or exported:
        copy = run.with_name(f"{run.name}.checked")
        shutil.copytree(run, copy)
        remove_leftovers(copy, "model")
        found += _fault(partial(checkpoint.load, copy / "model"))
        shutil.rmtree(copy)
    return found


def _read(save: Path) -> None:
    assert read_save(save)["global_step"] == step_of(save)


def _fault(look: Callable[[], object]) -> list[str]:
    try:
        look()
    except WavenetError as error:
        return [str(error)]
    return []


def newest(run: Path) -> int:
    """Return the step of the newest save, 0 for none."""
    saves = find_saves(run)
    return step_of(saves[-1]) if saves else 0


def temporary(folder: Path) -> list[str]:
    """Return the temporary files and folders that stayed."""
    return [
        str(p.relative_to(folder)) for kind in ("tmp", "old") for p in folder.rglob(f".*.{kind}-*")
    ]


def differences(one: Path, other: Path) -> list[str]:
    """Return where two finished runs differ: in their last saves, or in the model."""
    mine, yours = (read_save(find_saves(run)[-1]) for run in (one, other))
    found = unequal(mine, yours, "save")
    names = ("model/model.safetensors", "model/config.json")
    pairs = {name: [(run / name).read_bytes() for run in (one, other)] for name in names}
    return found + [name for name, (first, second) in pairs.items() if first != second]


def unequal(one: Any, other: Any, where: str) -> list[str]:
    """Return where two contents of saves differ, `where` being the name of the whole."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) and one.dtype == other.dtype else [where]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [w for key in one for w in unequal(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [w for i, pair in pairs for w in unequal(*pair, f"{where}.{i}")]
    return [] if one == other else [f"{where}: {one!r} is not {other!r}"]
