"""TensorBoard's curves and sounds, which can never stop training.

What TensorBoard cannot write (a full disk, a folder that is read-only) is told once; the rest of
the run goes on without it.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import TensorBoardLogger

from wavenet.evaluation.plots import spectrogram_image
from wavenet.training.workers import of_a_worker
from wavenet.utils.errors import printable

log = logging.getLogger("wavenet")


class TensorBoard(TensorBoardLogger):
    """Lightning's logger to a run's folder `tensorboard`.

    Args:
        run: The run's folder.
        step: Updates that came before: what an earlier process wrote past them is left out.
    """

    def __init__(self, run: Path, step: int) -> None:
        super().__init__(run, name="tensorboard", version="", purge_step=step + 1 if step else None)
        self.failed = False
        self.lock = threading.Lock()  # TensorBoard's thread and ours may fail at the same moment
        self.hook: Any = None  # of threads that fail, where ours stands in for it

    @property
    def experiment(self) -> Any:
        """TensorBoard's writer, or nothing after a failure."""
        if self.hook is None:
            self.hook, threading.excepthook = threading.excepthook, self._thread_failed
        return self._attempt(lambda: super(TensorBoard, self).experiment)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each curve."""
        self._attempt(lambda: super(TensorBoard, self).log_metrics(metrics, step))

    def log_sounds(self, sounds: dict[str, NDArray[np.float32]], step: int, rate: int) -> None:
        """Add sounds by name, `(T,)` at `rate` Hz, each to be heard and as a spectrogram."""

        def add() -> None:
            for name, sound in sounds.items():
                image = spectrogram_image(sound, rate)
                self.experiment.add_audio(name, sound[None], step, rate)
                self.experiment.add_image(name, image, step, dataformats="HWC")

        self._attempt(add)

    def save(self) -> None:
        """Write what waits."""
        self._attempt(super().save)

    def finalize(self, status: str) -> None:
        """Write what waits, and close."""
        self._attempt(lambda: super(TensorBoard, self).finalize(status))
        with self.lock:  # what fails meanwhile in TensorBoard's thread is told before
            pass
        if self.hook is not None:
            threading.excepthook, self.hook = self.hook, None

    def _attempt(self, work: Callable[[], Any]) -> Any:
        """Return what `work` does, or nothing if TensorBoard fails or has failed before."""
        if self.failed:
            return None
        try:
            return work()
        except Exception as error:
            if of_a_worker(error):
                raise
            self._give_up(error.__cause__ or error)
            return None

    def _thread_failed(self, args: threading.ExceptHookArgs) -> None:
        """Take what TensorBoard's own thread raises, whose traceback nobody needs."""
        if type(args.thread).__module__.startswith("tensorboard"):
            self._give_up(args.exc_value)
        else:
            self.hook(args)

    def _give_up(self, error: BaseException | None) -> None:
        with self.lock:  # until it is told: who finds it failed may end the run
            if not self.failed:
                log.warning(
                    "warning: TensorBoard cannot write to %s: %s. Training goes on without its "
                    "curves.",
                    *(printable(self.log_dir), printable(error)),
                )
            self.failed = True
