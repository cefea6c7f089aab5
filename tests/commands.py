"""How tests run a recipe command: in this process, or in another where signals are sent."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from wavenet.cli.main import run_command

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    "inspect": "inspect_model",
    "benchmark-train": "benchmark_train",
    "benchmark-blocks": "benchmark_blocks",
    "import": "import_model",
}


@dataclass(frozen=True)
class Done:
    """Exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


def run_here(verb: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> Done:
    """Run a command in this process, in the current folder."""
    before = sys.argv
    sys.argv = [f"wavenet-{verb}", *arguments]
    capsys.readouterr()
    try:
        run_command(verb.replace("-", "_"))
        code: object = 0
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.argv = before
    output = capsys.readouterr()
    assert isinstance(code, int)
    return Done(code, output.out, output.err)


def command_line(verb: str, *arguments: str) -> list[str]:
    """Return the command line of a recipe of this checkout, from any current folder."""
    return [sys.executable, str(ROOT / "recipes" / f"{SCRIPTS.get(verb, verb)}.py"), *arguments]


def environment() -> dict[str, str]:
    """Return the environment for other processes: this checkout first on the path, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
