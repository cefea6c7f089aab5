"""Recipe commands in an empty folder."""

import subprocess
from pathlib import Path

import pytest

from tests.commands import Run, command_line, environment


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a verb in an empty folder."""

    def run_verb(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(verb, *arguments),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run_verb
