"""Progress: a bar on a terminal, log lines elsewhere."""

import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from wavenet.utils import progress as module
from wavenet.utils.progress import duration, progress


@pytest.fixture(autouse=True)
def _propagate(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("wavenet"), "propagate", True)
    caplog.set_level(logging.INFO, "wavenet")


def test_short_work_without_a_postfix_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with progress(3, unit="file", description="checking") as advance:
        for _ in range(3):
            advance()

    assert not caplog.messages


def test_work_that_takes_long_logs_speed_and_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_LINE_SECONDS", 0.0)

    with progress(4_000, unit="sample", description="generating", initial=1_000) as advance:
        advance(1_000)
        advance(1_000)
        advance(1_000)

    first, last = caplog.messages  # the second is within the interval
    assert first.startswith("generating: 2,000/4,000 samples, ")
    assert "samples/s, " in first
    assert first.endswith(" left")
    assert last.startswith("generating: 4,000/4,000 samples, ")
    assert last.endswith(", took 0 s")


def test_lines_come_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))

    with progress(1_000_000, unit="step", description="training") as advance:
        for _ in range(600):  # a second each
            advance(postfix="loss 4.0")

    assert len(caplog.messages) == 10
    assert "277:" in caplog.messages[0]  # hours


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (95, "2 min"), (3_569, "59 min"), (145_963, "40:33 h")],
)
def test_a_duration_is_short_and_hours_have_minutes(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_postfix_is_logged_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with progress(2, unit="step", description="training") as advance:
        advance(postfix="loss 5.0")
        advance(postfix="loss 4.0")

    (line,) = caplog.messages
    assert line.startswith("training: 2/2 steps, ")
    assert line.endswith(", loss 4.0")


def test_an_unknown_total_logs_no_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_LINE_SECONDS", 0.0)

    with progress(None, unit="file", description="unpacking") as advance:
        advance()

    (line,) = caplog.messages
    assert line.startswith("unpacking: 1 files, ")
    assert "left" not in line


def test_disabled_progress_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with progress(1, unit="step", description="training", disable=True) as advance:
        advance(postfix="loss 4.0")

    assert not caplog.messages


def test_a_terminal_gets_a_bar_with_the_postfix(tmp_path: Path) -> None:
    code = (
        "from wavenet.utils.progress import progress\n"
        "with progress(2, unit='step', description='training') as advance:\n"
        "    advance(postfix='loss 5.0')\n"
        "    advance(postfix='loss 4.0')\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))  # rows, columns

    with open(theirs, "wb") as terminal:
        done = subprocess.run([sys.executable, "-c", code], stderr=terminal, check=False)
        shown = os.read(ours, 100_000).decode()
    os.close(ours)

    assert done.returncode == 0, shown
    assert "training: 100%" in shown
    assert "2/2" in shown
    assert "0 s left" in shown
    assert "loss 4.0" in shown
