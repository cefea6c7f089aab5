"""Invalid recordings: the error ends with the command that goes on, and that command works."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.commands import Run

GOES_ON = "This goes on: "


@pytest.fixture
def mixed(recordings: Path, tmp_path: Path) -> Path:
    """Six good recordings, one of another rate, and a text."""
    folder = tmp_path / "my recordings"
    shutil.copytree(recordings, folder)
    soundfile.write(folder / "faster.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 16000)
    (folder / "text.wav").write_text("no audio")
    return folder


def command_of(stderr: str) -> list[str]:
    last = stderr.splitlines()[-1]
    assert last.startswith(GOES_ON), stderr
    return shlex.split(last.removeprefix(GOES_ON))


def test_the_command_that_leaves_invalid_recordings_out_is_shown_and_works(
    run: Run, mixed: Path
) -> None:
    given = ["--data.root", mixed.name, "audio.sample_rate=8000"]

    refused = run("prepare", *given)

    assert refused.returncode == 3
    command = command_of(refused.stderr)
    assert command == ["wavenet-prepare", *given, "data.resample=true", "data.skip_invalid=true"]
    done = run("prepare", *command[1:])
    assert done.returncode == 0, done.stderr
    assert "left out: 1" in done.stdout


def test_recordings_that_conversion_repairs_are_not_left_out(run: Run, mixed: Path) -> None:
    (mixed / "text.wav").unlink()

    refused = run("prepare", f"data.root={mixed.name}", "audio.sample_rate=8000")

    assert command_of(refused.stderr)[-1] == "data.resample=true"


def test_no_command_is_shown_where_no_recording_would_be_left(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.wav").write_text("no audio")

    refused = run("prepare", "data.root=texts", "audio.sample_rate=8000")

    assert refused.returncode == 3
    assert GOES_ON not in refused.stderr
