"""SIGINT, SIGTERM and SIGUSR1 as a flag that every loop checks; a second signal exits at once.

A handler does nothing but set the flag, so it may come at any moment, even while a file is written;
to a terminal it writes a line without Python's buffers.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1")  # Slurm can be asked to send the last one
    if hasattr(signal, name)
)
STDERR = 2  # file descriptor


class Stopped(Exception):
    """A loop ended early because a signal came."""


class StopFlag:
    """Whether a signal asked this process to stop.

    Attributes:
        signal: The signal, `None` if none came.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def raise_if_stopped(self, *progress: object) -> None:
        """Raise if a signal came; fits as the progress callback of a loop.

        Raises:
            Stopped: A signal came.
        """
        if self:
            raise Stopped

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Set the flag on a signal that comes within the block."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self:
            os._exit(128 + number)  # no cleanup: files are written atomically
        self.signal = signal.Signals(number)
        if os.isatty(STDERR):
            os.write(
                STDERR, b"\nstopping after this step; once more ends at once, saving nothing\n"
            )
