"""What TensorBoard shows of a training: settings, curves, and audio of one held-out clip.

TensorBoard can never stop training: if it cannot write (a full disk, a read-only folder), one
warning says so, and the run continues without it.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.evaluation.plots import spectrogram_image
from wavenet.utils.errors import printable, require

METRICS = ("val/bits_per_sample", "train/bits_per_sample")  # of the table of hyperparameters
log = logging.getLogger("wavenet")


class TensorBoard:
    """Writes to the folder `tensorboard` of a run, from the first event on.

    Args:
        run: The run's folder.
        step: Updates so far: what an earlier process wrote past them is dropped.
        settings: Hyperparameters by name.
    """

    def __init__(self, run: Path, step: int, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = run / "tensorboard"
        self.purge_step = step + 1 if step else None
        self.settings = dict(settings or {})
        self.failed = False
        self.lock = threading.Lock()  # TensorBoard's thread and ours may fail at the same moment
        self._writer: Any = None
        self._thread_hook: Any = None  # `threading.excepthook` of before, while ours replaces it

    def add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""

        def add() -> None:
            for name, value in scalars.items():
                self._open().add_scalar(name, value, step)

        self._attempt(add)

    def add_audio(self, sounds: Mapping[str, NDArray[np.float32]], step: int, rate: int) -> None:
        """Add waveforms by name, `(T,)` at `rate` Hz, each as audio and as a spectrogram."""

        def add() -> None:
            for name, sound in sounds.items():
                image = spectrogram_image(sound, rate)
                self._open().add_audio(name, sound[None], step, rate)
                self._open().add_image(name, image, step, dataformats="HWC")

        self._attempt(add)

    def close(self) -> None:
        """Write what is buffered, and close."""
        if self._writer is not None:
            self._attempt(lambda: self._writer.close())
        with self.lock:  # a failure in TensorBoard's thread is logged before
            pass
        if self._thread_hook is not None:
            threading.excepthook, self._thread_hook = self._thread_hook, None

    def _open(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._thread_hook, threading.excepthook = threading.excepthook, self._thread_failed
            self._writer = SummaryWriter(str(self.folder), purge_step=self.purge_step)
            if self.settings:
                self._add_settings()
        return self._writer

    def _add_settings(self) -> None:
        """Write the hyperparameters; `add_hparams` would make another run of them."""
        from torch.utils.tensorboard.summary import hparams

        metrics = dict.fromkeys(METRICS, 0.0)
        for summary in hparams(self.settings, metrics):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(summary)

    def _attempt(self, write: Callable[[], None]) -> None:
        """Call `write`, unless TensorBoard has failed before."""
        if self.failed:
            return
        try:
            write()
        except Exception as error:  # noqa: BLE001 whatever it is, training goes on
            self._give_up(error.__cause__ or error)

    def _thread_failed(self, args: threading.ExceptHookArgs) -> None:
        """Handle an error of TensorBoard's own thread without a traceback."""
        if type(args.thread).__module__.startswith("tensorboard"):
            self._give_up(args.exc_value)
        else:
            self._thread_hook(args)

    def _give_up(self, error: BaseException | None) -> None:
        with self.lock:  # until it is logged: the process may end as soon as the failure is noticed
            if not self.failed:
                log.warning(
                    "warning: TensorBoard cannot write to %s: %s. Training continues without its "
                    "curves.",
                    *(printable(self.folder), printable(error)),
                )
            self.failed = True


def last_event_step(run: Path) -> int:
    """Return the last step in the event files of a run; 0 without any that can be read."""
    files = sorted((run / "tensorboard").glob("events.out.tfevents.*"))
    if not files:
        return 0
    try:
        loader: Any = require("tensorboard.backend.event_processing.event_file_loader", "train")
        events = (event for file in files for event in loader.EventFileLoader(str(file)).Load())
        return max((event.step for event in events if event.HasField("summary")), default=0)
    except Exception:  # noqa: BLE001 curves are only a hint
        return 0
