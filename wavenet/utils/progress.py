"""Progress of long work: a tqdm bar on a terminal, a log line now and then elsewhere; the log."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from wavenet.utils.errors import require

FIRST_LINE_SECONDS = 10.0
LOG_INTERVAL_SECONDS = 60.0
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{left}{rate_fmt}{postfix}]"  # of tqdm, with a known total
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
    `LOG_INTERVAL_SECONDS`, and a last one at `total` if a line was logged before or has a postfix:
    its rate is the mean of all units, that of the others leaves out the first, slow ones.

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
        form["bar_format"] = BAR if total else None
        with _bar_class(tqdm)(total=total, initial=initial, desc=description, **form) as bar:

            def move(count: int = 1, postfix: str = "") -> None:
                if postfix:
                    bar.set_postfix_str(postfix, refresh=False)
                bar.update(count)

            yield move
    else:
        yield _LogLines(total, unit, description, initial)


def duration(seconds: float) -> str:
    """Return a time for a reader: `45 s`, `12 min`, from an hour on as `2:05 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,}:{minutes % 60:02d} h"


def _bar_class(tqdm: Any) -> Any:
    """Return tqdm's bar with the time that is left in our form."""

    class Bar(tqdm.tqdm):  # type: ignore[misc]
        first: tuple[float, int] | None = None  # time and count after the first units

        @property
        def format_dict(self) -> dict[str, Any]:
            facts: dict[str, Any] = super().format_dict
            count, elapsed, left = facts["n"], facts["elapsed"], ""
            if self.first is None and count > facts["initial"]:
                self.first = elapsed, count
            if self.first is not None and self.first[1] < count < (facts["total"] or 0):
                seconds = (elapsed - self.first[0]) / (count - self.first[1])
                left = f"{duration((facts['total'] - count) * seconds)} left, "
            return {**facts, "left": left}

    return Bar


class _LogLines:
    def __init__(self, total: int | None, unit: str, description: str, initial: int) -> None:
        self.total, self.unit, self.description = total, unit, description
        self.initial = self.done = initial
        self.postfix = ""
        self.started = time.monotonic()
        self.first: tuple[float, int] | None = None  # time and count after the first units
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
            log.info("%s", self._line(now))
        self.first = self.first or (now, self.done)

    def _line(self, now: float) -> str:
        whole = self.started, self.initial  # the last line gives the mean of all units
        start, count = whole if self.done == self.total else self.first or whole
        rate, seconds = (self.done - count) / max(now - start, 1e-9), now - self.started
        parts = [f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"]
        parts[0] = f"{self.description}: {parts[0]} {self.unit}s"
        if self.first or self.done == self.total:  # the first units include what is done once
            parts.append(f"{rate:,.{0 if rate >= 100 else 2}f} {self.unit}s/s")
        if self.done == self.total:
            parts.append(f"took {duration(seconds)}")
        elif self.first and self.total is not None and rate:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
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
