"""Python's cycle collector, off while much is made that stays: modules, compiled functions.

It would look through all of PyTorch, again and again.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Turn the collector off; on again after the block if it was."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
