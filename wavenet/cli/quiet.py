"""What the libraries under the commands have to say stays with them, unless `debug=true` asks.

Their warnings (deprecations, fonts, threads) are about code that a user of a command has not
written. What concerns the user is in the package's own log.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

CHILDREN = {  # environment of the processes that a command starts, and of compiled libraries
    "PYTHONWARNINGS": "ignore",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show no warnings of Python, and no log of other packages; what a user has set stays.

    Filters stay as they are: where a warning is an error, it remains one.
    """
    if sys.warnoptions:  # python -W or PYTHONWARNINGS
        yield
        return
    root, nothing = logging.getLogger(), logging.NullHandler()
    added = [name for name in CHILDREN if name not in os.environ]
    show = warnings.showwarning
    root.addHandler(nothing)  # else warnings of loggers without a handler are printed
    os.environ.update({name: CHILDREN[name] for name in added})
    warnings.showwarning = _drop
    try:
        yield
    finally:
        warnings.showwarning = show
        root.removeHandler(nothing)
        for name in added:
            os.environ.pop(name, None)


def _drop(*_: Any, **__: Any) -> None:
    """Take the place of `warnings.showwarning`."""
