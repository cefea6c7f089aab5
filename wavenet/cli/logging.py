"""What a command tells on the way: plain lines on stderr, above a progress bar if there is one."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wavenet.utils.errors import require


class _Console(logging.Handler):
    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        message = f"{self.prefix}{self.format(record)}"
        tqdm = sys.modules.get("tqdm")
        if tqdm is not None and sys.stderr.isatty():
            tqdm.tqdm.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)


def listen_to_log(prefix: str = "") -> None:
    """Show what the package logs, with a prefix where several processes do."""
    log = logging.getLogger("wavenet")
    log.handlers = [_Console(prefix)]
    log.setLevel(logging.INFO)
    log.propagate = False


@contextmanager
def progress_bar(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with what was done since the last call; a bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    tqdm = require("tqdm", "generate")
    with tqdm.tqdm(total=total, unit=unit, unit_scale=True) as bar:
        yield bar.update
