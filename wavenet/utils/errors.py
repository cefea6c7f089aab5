"""What goes wrong, by whose side it is on: one class for each exit code of the commands.

A message names the file or key, what was found, what was wanted and the way out. It is shown to
people as it is, so text that comes from a file goes through `printable` first.
"""

import contextlib
import importlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, ModuleType


class WavenetError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        exit_code: Of a command that it ends.
        told: Whether another process, of those that work together, says it.
    """

    exit_code = 1
    told = False


class ConfigError(WavenetError, ValueError):
    """The command line or a config asks for what cannot be."""

    exit_code = 2


class DataError(WavenetError):
    """Audio or a manifest is not what it must be."""

    exit_code = 3


class CheckpointError(WavenetError):
    """A checkpoint is damaged, incomplete, foreign or too new."""

    exit_code = 4


class MachineError(WavenetError):
    """The machine refuses: disk, permission, lock, a missing package."""

    exit_code = 5


def printable(text: object, limit: int = 200) -> str:
    """Return `text` on one line, control characters escaped, cut at `limit` characters."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra of this package brings it.

    Args:
        module: Name to import, as in `import module`.
        extra: Extra of `torch-wavenet` that installs it.

    Raises:
        EnvironmentFault: `module` is not installed or does not load.
    """
    try:
        with _signals_later():
            return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        missing = isinstance(error, ModuleNotFoundError)
        found = "is not installed" if missing else f"does not load ({printable(error)})"
        raise MachineError(
            f"{module} {found}: it comes with pip install 'torch-wavenet[{extra}]'"
        ) from error


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Hold signals back: an import of compiled code that one broke off could not be done again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    ours = [(number, handler) for number, handler in handlers if callable(handler)]
    for number, _ in ours:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in ours:
            signal.signal(number, handler)
    for arrived in came:
        signal.raise_signal(arrived)
