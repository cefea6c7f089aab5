"""Exceptions grouped by cause, one exit code of the commands each.

A message names the file or key, what was found, what was expected and what to do. It is shown as it
is, so text that comes from a file goes through `printable` first.
"""

import importlib
import shlex
import sys
from collections.abc import Sequence
from types import ModuleType

from wavenet.utils.signals import signals_deferred


class WavenetError(Exception):
    """Base class of the errors that this package raises on purpose.

    Attributes:
        exit_code: Exit code of a command that ends with this error.
        reported_elsewhere: Whether another process of the process group reports this error.
        overrides: Words, KEY=VALUE, with which the same command goes on; empty for none.
    """

    exit_code = 1
    reported_elsewhere = False
    overrides: Sequence[str] = ()


class ConfigError(WavenetError, ValueError):
    """The command line or a config is invalid."""

    exit_code = 2


class DataError(WavenetError):
    """Audio or a manifest is invalid."""

    exit_code = 3


class CheckpointError(WavenetError):
    """A model directory or training checkpoint is damaged, incomplete, foreign or too new."""

    exit_code = 4


class MachineError(WavenetError):
    """The machine is the cause: disk, permission, lock, network, a missing package."""

    exit_code = 5


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory was short; torch then raises a `RuntimeError`, on a GPU too."""
    texts = ("can't allocate memory", "not enough memory", "out of memory")  # the second on Windows
    of_torch = isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    return of_torch or isinstance(error, MemoryError)


def printable(text: object, limit: int = 200) -> str:
    """Return `text` on one line, control characters escaped, cut at `limit` characters."""
    line = str(text)
    if not line.isprintable():
        escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        line = "".join(escaped)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def shell_word(path: object) -> str:
    """Return a path as a shell takes it, for a command that is shown."""
    return shlex.quote(printable(path))


def listed(lines: Sequence[str], limit: int = 12) -> str:
    """Return lines of a message, indented: the first `limit`, then how many more there are."""
    more = [f"and {len(lines) - limit} more"] * (len(lines) > limit)
    return "".join(f"\n  {line}" for line in [*lines[:limit], *more])


def require(module: str, extra: str) -> ModuleType:
    """Import `module`; if that fails, name the extra of this package that installs it.

    Args:
        module: Name to import, as in `import module`.
        extra: Extra of `torch-wavenet` that installs it.

    Raises:
        MachineError: `module` is not installed or does not load.
    """
    try:
        with signals_deferred():
            return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        problem = f"{module} does not load ({printable(error)})"
        remedy = f"it comes with pip install 'torch-wavenet[{extra}]'"
        if isinstance(error, ModuleNotFoundError):
            problem = f"{error.name} is not installed"
        elif module == "torchaudio":
            remedy = _matching_torchaudio()
        raise MachineError(f"{problem}: {remedy}") from error


def _matching_torchaudio() -> str:
    """Return how the torchaudio of the same build as torch, for the CPU or CUDA, is installed."""
    version = str(getattr(sys.modules.get("torch"), "__version__", "?"))
    build = version.partition("+")[2]
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    return (
        f"it must be of the same build as torch, here {version}: pip install --force-reinstall "
        f"--no-deps 'torchaudio==2.11.*'{index}"
    )
