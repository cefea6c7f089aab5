"""Where the curves of a training go: TensorBoard, a CSV file, Weights & Biases.

`trainer.logger` chooses; all get the same tags at the same steps. None of them can stop training:
one that cannot write says so once, and the run continues without it.
"""

import contextlib
import csv
import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wavenet.training.options import RunConfig
from wavenet.training.tensorboard import TensorBoard, last_event_step
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import printable, require
from wavenet.utils.files import write_text

METRICS_FILE = "metrics.csv"
COLUMNS = ("step", "name", "value")
MAX_LISTED = 64  # entries of a setting that is a list
PROJECT = "wavenet"  # at Weights & Biases, unless WANDB_PROJECT names another
log = logging.getLogger("wavenet")
Sounds = Mapping[str, NDArray[np.float32]]


class Logger(Protocol):
    """Takes what a training reports."""

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""

    def add_audio(self, sounds: Sounds, step: int, rate: int) -> None:
        """Add waveforms by name, `(T,)` at `rate` Hz."""

    def close(self) -> None:
        """Write what is buffered, and close."""


class Loggers:
    """Gives everything to each of several loggers."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = loggers

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        for logger in self.loggers:
            logger.add_scalars(scalars, step)

    def add_audio(self, sounds: Sounds, step: int, rate: int) -> None:
        """Add waveforms by name, `(T,)` at `rate` Hz."""
        for logger in self.loggers:
            logger.add_audio(sounds, step, rate)

    def close(self) -> None:
        """Write what is buffered, and close."""
        for logger in self.loggers:
            logger.close()


class _Forgiving:
    """Tries to write until that fails once."""

    name: str

    def __init__(self) -> None:
        self.failed = False

    def attempt(self, write: Callable[[], object]) -> None:
        """Call `write`, unless an earlier call has failed."""
        if self.failed:
            return
        try:
            write()
        except Exception as error:  # noqa: BLE001 training is worth more than its curves
            self.failed = True
            log.warning(
                "warning: %s: %s. Training continues without its curves.",
                *(self.name, printable(error)),
            )


class CsvFile(_Forgiving):
    """Writes scalars to `metrics.csv` of a run, a line `step,name,value` for each.

    Args:
        run: The run's folder.
        step: Updates so far: lines past them, of an earlier process, are dropped.
    """

    name = METRICS_FILE

    def __init__(self, run: Path, step: int) -> None:
        super().__init__()
        self.path = run / METRICS_FILE
        self.attempt(lambda: self._start(step))

    def _start(self, step: int) -> None:
        lines = [",".join(COLUMNS)]
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS)]
            lines += [",".join(row) for row in rows if row[0].isdecimal() and int(row[0]) <= step]
        write_text(self.path, "\n".join(lines) + "\n")

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a line for each."""

        def add() -> None:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{step},{name},{value:.7g}\n" for name, value in scalars.items())

        self.attempt(add)

    def add_audio(self, sounds: Sounds, step: int, rate: int) -> None:
        """Do nothing: a table has no place for sound."""

    def close(self) -> None:
        """Do nothing: every line is written at once."""


class WeightsAndBiases(_Forgiving):
    """Sends everything to Weights & Biases; `WANDB_MODE=offline` keeps it in the run's folder.

    Args:
        run: The run's folder; a resumed run has the same identity there.
        settings: Hyperparameters by name.
    """

    name = "Weights & Biases"

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self._wandb: Any = require("wandb", "wandb")
        self._run: Any = None
        self.attempt(lambda: self._start(run, settings))

    def _start(self, run: Path, settings: Mapping[str, Any]) -> None:
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(run),
            config=dict(settings),
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        self.attempt(lambda: self._run.log(dict(scalars), step=step))

    def add_audio(self, sounds: Sounds, step: int, rate: int) -> None:
        """Add waveforms by name, `(T,)` at `rate` Hz."""

        def add() -> None:
            audio = self._wandb.Audio
            named = {name: audio(sound, sample_rate=rate) for name, sound in sounds.items()}
            self._run.log(named, step=step)

        self.attempt(add)

    def close(self) -> None:
        """Send what is buffered, and close."""
        if self._run is not None:
            self.attempt(self._run.finish)


def last_logged_step(run: Path) -> int:
    """Return the last step of the curves in a run's folder; 0 without any that can be read."""
    steps = [0]
    with contextlib.suppress(OSError, UnicodeDecodeError, csv.Error):
        rows = csv.reader((run / METRICS_FILE).read_text("utf-8").splitlines())
        steps += [int(row[0]) for row in rows if row and row[0].isdecimal()]
    return max(*steps, last_event_step(run))


def require_loggers(names: Sequence[str]) -> None:
    """Raise a `MachineError` with the extra to install if a logger of `names` is missing."""
    for name in names:
        if name != "csv":
            require(name, "wandb" if name == "wandb" else "train")


def build_loggers(config: RunConfig, run: Path, step: int) -> Loggers:
    """Return the loggers of `trainer.logger` for a run after `step` updates."""
    settings = flat_settings(to_dict(config))
    make: dict[str, Callable[[], Logger]] = {
        "tensorboard": lambda: TensorBoard(run, step, settings),
        "csv": lambda: CsvFile(run, step),
        "wandb": lambda: WeightsAndBiases(run, settings),
    }
    return Loggers([make[name]() for name in dict.fromkeys(config.trainer.logger)])


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a config's keys in dotted form, with values that a table of settings can show."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flat_settings(value, f"{name}."))
        elif not isinstance(value, list):
            flat[name] = "null" if value is None else value
        elif len(value) <= MAX_LISTED:
            flat[name] = str(value)
    return flat
