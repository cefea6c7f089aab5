"""Log lines on stderr, above a progress bar if there is one."""

import logging
import sys


class _StderrHandler(logging.Handler):
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


def log_to_stderr(prefix: str = "") -> None:
    """Print the package's log on stderr, with a prefix where several processes do."""
    log = logging.getLogger("wavenet")
    log.handlers = [_StderrHandler(prefix)]
    log.setLevel(logging.INFO)
    log.propagate = False
