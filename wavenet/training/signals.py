"""Ctrl-C, SIGTERM and SIGUSR1 as a flag that every loop looks at; a second one leaves at once.

A handler does nothing but set the flag, so that it can come at any moment, inside a save too.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1")  # the last is what Slurm can be asked to send
    if hasattr(signal, name)
)


class Stopped(Exception):
    """A loop was left before its end, because a signal asked for that."""


class StopFlag:
    """Whether a signal asked for the end.

    Attributes:
        signal: The signal that came, or absent.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def look(self, *done: object) -> None:
        """Leave a loop that calls this as it goes, once a signal came.

        Raises:
            Stopped: A signal came.
        """
        if self:
            raise Stopped

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Set the flag on a signal that comes within the block."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self) -> None:
        """Take the signals, also from a library that took them since."""
        for number in SIGNALS:
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self:
            os._exit(128 + number)  # the second time: no clean-up, and no half-written final name
        self.signal = signal.Signals(number)
