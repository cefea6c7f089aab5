"""Progress of long work: a tqdm bar on a terminal, a log line now and then elsewhere; the log."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from wavenet.utils.errors import require

FIRST_LINE_SECONDS = 3.0
LOG_INTERVAL_SECONDS = 15.0
log = logging.getLogger("wavenet")


class Advance(Protocol):
    """Reports finished work."""

    def __call__(self, count: int = 1, postfix: str = "") -> None:
        """Add `count` finished units; `postfix` is shown from now on, such as a loss."""


@contextlib.contextmanager
def progress(
    total: int | None, *, unit: str, description: str, initial: int = 0, disable: bool = False
) -> Iterator[Advance]:
    """Yield a function that reports finished work.

    On a terminal it moves a bar. Elsewhere it logs a line after `FIRST_LINE_SECONDS`, then every
    `LOG_INTERVAL_SECONDS`, and a last one at `total` if a line was logged before or has a postfix.

    Args:
        total: Units in total; `None` if unknown.
        unit: Name of one unit, in the singular.
        description: What is being done, such as `training`.
        initial: Units that an earlier process finished.
        disable: Show nothing, for example on all processes but one.

    Raises:
        MachineError: stderr is a terminal and tqdm is not installed.
    """
    if disable:
        yield lambda count=1, postfix="": None
    elif sys.stderr.isatty():
        tqdm: Any = require("tqdm", "generate")
        scale = total is None or total >= 10_000  # 12.3k instead of 12345
        form = {"unit": f" {unit}s", "unit_scale": scale, "smoothing": 0, "dynamic_ncols": True}
        with tqdm.tqdm(total=total, initial=initial, desc=description, **form) as bar:

            def move(count: int = 1, postfix: str = "") -> None:
                if postfix:
                    bar.set_postfix_str(postfix, refresh=False)
                bar.update(count)

            yield move
    else:
        yield _LogLines(total, unit, description, initial)


class _LogLines:
    def __init__(self, total: int | None, unit: str, description: str, initial: int) -> None:
        self.total, self.unit, self.description = total, unit, description
        self.initial = self.done = initial
        self.postfix = ""
        self.started = time.monotonic()
        self.next_line = self.started + FIRST_LINE_SECONDS
        self.has_logged = False

    def __call__(self, count: int = 1, postfix: str = "") -> None:
        self.done += count
        self.postfix = postfix or self.postfix
        now = time.monotonic()
        ended = self.done == self.total and (self.has_logged or bool(self.postfix))
        if now >= self.next_line or ended:
            self.next_line = now + LOG_INTERVAL_SECONDS
            self.has_logged = True
            log.info("%s", self._line(now - self.started))

    def _line(self, seconds: float) -> str:
        rate = (self.done - self.initial) / max(seconds, 1e-9)
        parts = [f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"]
        parts[0] = f"{self.description}: {parts[0]} {self.unit}s"
        parts.append(f"{rate:,.{0 if rate >= 100 else 2}f} {self.unit}s/s")
        if self.total is not None and rate:
            minutes, left = divmod(round((self.total - self.done) / rate), 60)
            parts.append(f"{minutes}:{left:02d} left")
        return ", ".join([*parts, self.postfix] if self.postfix else parts)


class _StderrHandler(logging.Handler):
    """Prints log lines on stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        tqdm = sys.modules.get("tqdm")
        if tqdm is not None and sys.stderr.isatty():
            tqdm.tqdm.write(message, file=sys.stderr)
        else:
            sys.stderr.write(f"{message}\n")


def log_to_stderr(prefix: str = "") -> None:
    """Print the package's log on stderr, with a prefix where several processes do."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter(f"{prefix}{{message}}", style="{"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
