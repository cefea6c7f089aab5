"""Ctrl-C and SIGTERM as a flag that the loop looks at; a second one leaves at once.

A handler does nothing but set the flag, so that it can come at any moment, inside a save too.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """Whether a signal asked for the end.

    Attributes:
        signal: The signal that came, or absent.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

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
