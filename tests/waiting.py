"""Waiting in tests for what another process does, with a limit."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], failure: str, seconds: float = 120.0) -> None:
    """Return once `condition` holds; fail with a message if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{failure} within {seconds:g} s"
        time.sleep(0.01)
