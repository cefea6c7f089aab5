"""How tests run a recipe command: in another process, as people do."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = {"inspect": "inspect_model"}
Run = Callable[..., subprocess.CompletedProcess[str]]


def command_line(verb: str, *arguments: str) -> list[str]:
    """What runs a recipe from this checkout, wherever the current folder is."""
    return [sys.executable, str(ROOT / "recipes" / f"{SCRIPTS.get(verb, verb)}.py"), *arguments]


def environment() -> dict[str, str]:
    """This checkout first on the path, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
