"""Blocks that a signal does not interrupt.

An interrupted import of C code cannot be repeated, LLVM loses what is raised while it compiles, and
OmegaConf turns an interruption into an error of its own.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Deliver signals to this process's handlers after the block, if it is in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    ours = [(number, handler) for number, handler in handlers if callable(handler)]
    for number, _ in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in ours:
            signal.signal(number, handler)
    for signal_number in received:
        signal.raise_signal(signal_number)
