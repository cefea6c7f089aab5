"""Recipe commands in an empty folder, and recordings for them."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

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


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short recordings at 8 kHz: tones that fade, over a little noise."""
    folder = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(0)
    t = np.arange(6000) / 8000
    for index in range(6):
        tone = 0.5 * np.sin(2 * np.pi * 110 * (index + 2) * t) * np.exp(-2 * t)
        noisy = tone + 0.01 * generator.standard_normal(len(t))
        soundfile.write(folder / f"tone-{index}.wav", noisy, 8000)
    return folder
