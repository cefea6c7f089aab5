"""A recipe's `main`: Hydra composes, a dataclass checks, errors become exit codes.

    0 done    2 command line or config    3 audio or data    4 checkpoint
    5 disk, permission, lock, missing extra    130 SIGINT    143 SIGTERM    138 SIGUSR1

A config never names code: there is no `_target_`, and Hydra's resolvers of the environment are off.
"""

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Generic, NoReturn, TypeVar

import wavenet
from wavenet.cli.compose import Composed
from wavenet.cli.help import help_text
from wavenet.cli.hydra_main import compose_with
from wavenet.cli.logging import listen_to_log
from wavenet.cli.sweep import Outcome
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import MachineError, WavenetError, printable, require

T = TypeVar("T")
log = logging.getLogger("wavenet")


@dataclass(frozen=True)
class Checked(Generic[T]):
    """A task that is given a dataclass for a composed config; it can be pickled."""

    options: type[T]
    task: Callable[[T, Composed], Outcome | None]

    def __call__(self, composed: Composed) -> Outcome:
        return self.task(from_dict(self.options, composed.plain), composed) or Outcome()


class Terminated(BaseException):
    """SIGTERM or SIGUSR1 came: as `KeyboardInterrupt`, so that whoever writes a file cleans up."""


def command(
    verb: str,
    script: str,
    options: type[T],
    task: Callable[[T, Composed], Outcome | None],
    extra: str = "generate",
    *,
    sweeps: bool = False,
) -> None:
    """Run a recipe script as a command, and exit with its code.

    Args:
        verb: Name of its config in conf/, and the end of the command's name.
        script: The script's `__file__`; conf/ lies beside its folder.
        options: Dataclass that the config must fit.
        task: Given the options, and how they were said; returns what it came to, if that is more
            than done.
        extra: The extra that the command needs.
        sweeps: Whether `-m` makes sense for it.
    """
    debug = "debug=true" in sys.argv[1:]
    try:
        listen_to_log()
        with _terminated_by_signal():
            require("hydra", extra)
            conf = Path(script).resolve().parents[1] / "conf"
            _tell_and_leave(conf, verb, set(sys.argv[1:]))
            sys.exit(compose_with(conf, verb, Checked(options, task), sweeps=sweeps))
    except KeyboardInterrupt:
        _say("interrupted; nothing half-written stays")
        sys.exit(128 + signal.SIGINT)
    except Terminated as end:
        _say("terminated; nothing half-written stays")
        sys.exit(128 + end.args[0])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (WavenetError, OSError, MemoryError) as error:
        if debug:
            traceback.print_exc()
        _tell(error)
        _leave(error.exit_code if isinstance(error, WavenetError) else MachineError.exit_code)


def _tell(error: Exception) -> None:
    """Say in a sentence what ended the command, unless another process does."""
    if isinstance(error, WavenetError):
        if not error.reported_elsewhere:
            _say(f"{type(error).__name__}: {error}")
    elif isinstance(error, OSError):
        place = f" {printable(error.filename)}" if error.filename else ""
        _say(f"EnvironmentFault:{place} {error.strerror or printable(error)}")
    else:
        _say(f"EnvironmentFault: not enough memory: {printable(error) or 'ask for less at once'}")


def _tell_and_leave(conf: Path, verb: str, words: set[str]) -> None:
    """Show what is asked about the command itself, if anything is, and leave."""
    if words & {"--help", "-h"}:
        print(help_text(conf, verb))
        sys.exit(0)
    if words == {"--version"}:
        print(f"torch-wavenet {wavenet.__version__}")
        sys.exit(0)


@contextlib.contextmanager
def _terminated_by_signal() -> Iterator[None]:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    names = ("SIGTERM", "SIGUSR1")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, terminate) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(code: int) -> NoReturn:
    """Exit with a code.

    A process that others still expect to talk to goes at once: Python's own end frees what threads
    of PyTorch still use, and now and then aborts.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _say(message: str) -> None:
    sys.stdout.flush()
    lines = message.splitlines()
    print("\n".join(lines[:20]), file=sys.stderr)
