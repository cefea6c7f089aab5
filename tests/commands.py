"""How tests run a recipe command: in this process, or in another where signals are sent."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
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


IN_ONE_PROCESS = """
import contextlib, io, json, sys
from wavenet.cli.main import run_command

heavy, *lines = json.loads(sys.argv[1])
for verb, *words in lines:
    sys.argv, code, out, err = [f"wavenet-{verb}", *words], 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_command(verb)
        except SystemExit as leaving:
            code = leaving.code
    loaded = sorted({*heavy} & {*sys.modules})
    print(json.dumps([code, out.getvalue(), err.getvalue(), loaded]))
"""


def run_in_one_process(
    folder: Path, heavy: Sequence[str], lines: Sequence[Sequence[str]]
) -> list[tuple[Done, list[str]]]:
    """Run commands one after the other in a new process, in a folder.

    Args:
        folder: Its current folder.
        heavy: Names of modules.
        lines: Verb and arguments of each command.

    Returns:
        For each command what it did, and those of the modules that are loaded after it.
    """
    words = [sys.executable, "-c", IN_ONE_PROCESS, json.dumps([heavy, *lines])]
    done = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = map(json.loads, done.stdout.splitlines())
    return [(Done(code, out, err), loaded) for code, out, err, loaded in found]


def command_line(verb: str, *arguments: str) -> list[str]:
    """Return the command line of a recipe of this checkout, from any current folder."""
    return [sys.executable, str(ROOT / "recipes" / f"{SCRIPTS.get(verb, verb)}.py"), *arguments]


def environment() -> dict[str, str]:
    """Return the environment for other processes: this checkout first on the path, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
