import os
import signal
import subprocess
import sys

import pytest

from wavenet.training.signals import StopFlag, Stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_sets_the_flag_and_nothing_else(number: signal.Signals) -> None:
    stop = StopFlag()
    before = signal.getsignal(number)

    with stop.listening():
        assert not stop
        stop.raise_if_stopped()
        os.kill(os.getpid(), number)
        assert stop

    with pytest.raises(Stopped):
        stop.raise_if_stopped()
    assert stop.signal is number
    assert signal.getsignal(number) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudoterminals")
def test_a_signal_is_reported_on_a_terminal() -> None:
    master, terminal = os.openpty()
    stderr = os.dup(2)
    os.dup2(terminal, 2)
    try:
        with StopFlag().listening():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        os.dup2(stderr, 2)
        os.close(terminal)

    assert b"stopping after this step" in os.read(master, 1000)


TWICE = """
import os, signal
from wavenet.training.signals import StopFlag
with StopFlag().listening():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    print("still here")
"""


@pytest.mark.slow
def test_a_second_signal_exits_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, check=False)

    assert done.returncode == 130
    assert b"still here" not in done.stdout
