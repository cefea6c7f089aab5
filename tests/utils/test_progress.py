"""Progress: a bar on a terminal, log lines elsewhere."""

import fcntl
import io
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import tqdm

from wavenet.utils import progress as module
from wavenet.utils.progress import BAR, _bar_class, duration, progress


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
    monkeypatch.setattr(module, "LOG_INTERVAL_SECONDS", 0.0)

    with progress(4_000, unit="sample", description="generating", initial=1_000) as advance:
        advance(1_000)
        advance(1_000)
        advance(1_000)

    first, second, last = caplog.messages
    assert first == "generating: 2,000/4,000 samples", "nothing is known of later ones"
    assert second.startswith("generating: 3,000/4,000 samples, ")
    assert "samples/s, " in second
    assert second.endswith(" left")
    assert last.startswith("generating: 4,000/4,000 samples, ")
    assert last.endswith(", took 0 s")


def test_a_slow_first_step_does_not_count_for_the_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 100.0, 101.0, 161.0])  # the first step compiles
    monkeypatch.setattr("time.monotonic", lambda: next(times))

    with progress(1_000, unit="step", description="training") as advance:
        advance(postfix="loss 5.0")
        advance(postfix="loss 4.0")
        advance(60, postfix="loss 3.0")

    assert caplog.messages[0] == "training: 1/1,000 steps, loss 5.0"
    assert caplog.messages[1] == "training: 62/1,000 steps, 1.00 steps/s, 16 min left, loss 3.0"


def test_the_last_line_has_the_mean_rate_of_all_units(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 20.0, 40.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))

    with progress(90, unit="step", description="training", initial=10) as advance:
        advance(20, postfix="loss 5.0")
        advance(60, postfix="loss 4.0")

    assert caplog.messages[-1] == "training: 90/90 steps, 2.00 steps/s, took 40 s, loss 4.0"


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

    monkeypatch.setattr(module, "LOG_INTERVAL_SECONDS", 0.0)

    with progress(None, unit="file", description="unpacking") as advance:
        advance()
        advance()

    first, second = caplog.messages
    assert first == "unpacking: 1 files"
    assert second.startswith("unpacking: 2 files, ")
    assert second.endswith(" files/s")


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
    assert "loss 4.0" in shown


def test_a_bar_says_the_time_left_once_it_is_known() -> None:
    shown = io.StringIO()
    every = {"mininterval": 0, "miniters": 1}

    with _bar_class(tqdm)(total=4, file=shown, bar_format=BAR, **every) as bar:
        for _ in range(4):
            bar.update()

    lines = {
        count: line for line in shown.getvalue().split("\r") for count in re.findall("./4", line)
    }
    assert [count for count, line in lines.items() if " left, " in line] == ["2/4", "3/4"]
