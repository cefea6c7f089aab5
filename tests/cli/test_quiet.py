"""Warnings of libraries do not reach the user of a command."""

import subprocess
import sys

import pytest

from tests.commands import environment

CODE = """
import logging, subprocess, sys, warnings
from wavenet.cli.main import run_command

def task(options, composed):
    warnings.warn("a deprecation of a library", FutureWarning)
    logging.getLogger("matplotlib.font_manager").warning("building the font cache")
    logging.getLogger("wavenet").warning("warning: our own")
    subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('of a child')"])

sys.argv = ["wavenet-inspect", *sys.argv[1:]]
run_command("inspect", task)
"""


@pytest.mark.parametrize("debug", [False, True])
def test_only_our_own_warnings_are_shown_unless_debug_is_set(debug: bool) -> None:
    settings = {k: v for k, v in environment().items() if k != "PYTHONWARNINGS"}

    done = subprocess.run(
        [sys.executable, "-c", CODE, f"debug={str(debug).lower()}"],
        env=settings,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "warning: our own" in done.stderr
    for text in ("a deprecation", "font cache", "of a child"):
        assert (text in done.stderr) is debug, done.stderr
