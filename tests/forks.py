"""Commands in processes of their own, forked from a server that has imported everything.

So a process that gets signals, or one of several, starts at once.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.commands import Done, environment
from wavenet.cli.main import run_command

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.preload", "tests.process_groups"])


class CommandProcess:
    """A process that runs a command in a folder.

    Args:
        folder: Its current folder.
        verb: Of the command.
        arguments: Of the command.
        variables: Of its environment, as a launcher sets them.
        name: Part of the names of the files that hold its output.
        own_session: Whether it leads a process group of its own.
    """

    def __init__(
        self,
        folder: Path,
        verb: str,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        name: str = "0",
        own_session: bool = False,
    ) -> None:
        self.output_files = [folder / f"{kind}-{name}.txt" for kind in ("out", "err")]
        line = (f"wavenet-{verb}", *arguments)
        how = (folder, line, dict(variables or {}), self.output_files, own_session)
        self.process = SERVER.Process(target=_run, args=how)
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def is_alive(self) -> bool:
        """Return whether it has not ended yet."""
        return self.process.is_alive()

    def wait(self, seconds: float = 400.0) -> Done:
        """Wait for its end, and return its output; one that does not end is killed."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"hangs: {self.output_files[1].read_text()}")
        out, err = (path.read_text(encoding="utf-8") for path in self.output_files)
        return Done(self.process.exitcode, out, err)


class FunctionProcess:
    """A process that calls a function of a module.

    Args:
        function: What it calls.
        arguments: Its arguments.
        variables: Of the process's environment.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.answer, its_end = SERVER.Pipe(duplex=False)
        how = (its_end, function, arguments, dict(variables or {}))
        self.process = SERVER.Process(target=_call, args=how)
        self.process.start()
        its_end.close()

    def result(self) -> Any:
        """Wait for its end, and return what the function returned."""
        try:
            return self.answer.recv()
        except EOFError:
            raise AssertionError("the process failed; its traceback is on stderr") from None
        finally:
            self.process.join()
            self.answer.close()


def _call(
    answer: Any,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    variables: dict[str, str],
) -> None:
    os.environ.update(environment() | variables)
    torch.set_num_threads(1)
    answer.send(function(*arguments))


def _run(
    folder: Path,
    line: tuple[str, ...],
    variables: dict[str, str],
    output_files: list[Path],
    own_session: bool,
) -> None:
    # As in a process that a user starts, also where the tests run in the background
    multiprocessing.set_start_method(None, force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if own_session:
        os.setsid()
    os.chdir(folder)
    os.environ.update(environment() | variables)
    torch.set_num_threads(1)
    sys.argv = list(line)
    for number, path in enumerate(output_files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    sys.stdout, sys.stderr = (path.open("a", encoding="utf-8") for path in output_files)
    run_command(line[0].removeprefix("wavenet-").replace("-", "_"))
