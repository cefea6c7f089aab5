"""A run's folder: made for one run, locked while it trains, and found when it is started again."""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.options import RunConfig
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import ConfigError, MachineError, printable
from wavenet.utils.files import locked, new_numbered_folder, write_text

LAUNCH_FILE = "launch"
RUNS_DIR = Path("runs")


def find_relaunched_run(config: RunConfig, run: Path | None, launch: str | None) -> Path | None:
    """Return the folder of the run that this launch started with this config, if it did.

    Args:
        config: From the command line, before anything is taken from the data.
        run: The folder that was chosen; `None` for one in `runs`.
        launch: Name of the launch; `None` if nothing restarts this process.
    """
    if launch is None:
        return None
    mark = _launch_mark(config, launch)
    folders = [run] if run is not None else _run_dirs(config.name)
    return next((folder for folder in folders if _read_mark(folder) == mark), None)


def new_run_dir(config: RunConfig, run: Path | None, launch: str | None) -> Path:
    """Make and return a run's folder; two runs that start together get one each.

    Args:
        config: From the command line.
        run: The folder; `None` for `runs/NAME`, or `runs/NAME-2` and so on if that exists.
        launch: Name of the launch, kept in the folder.

    Raises:
        ConfigError: The folder is not empty.
    """
    if run is None:
        run = new_numbered_folder(RUNS_DIR, config.name)
    elif run.exists() and not _is_abandoned(run):
        raise ConfigError(
            f"run_dir {printable(run)} is not empty: resume={printable(run)} continues that run, "
            "or choose another run_dir"
        )
    run.mkdir(parents=True, exist_ok=True)
    if launch is not None:
        write_text(run / LAUNCH_FILE, _launch_mark(config, launch))
    return run


def _is_abandoned(run: Path) -> bool:
    """Return whether a folder holds no more than a run leaves that is killed at once."""
    names = {entry.name for entry in run.iterdir()}
    return all(name == "lock" or name.startswith((".run.json.", ".launch.")) for name in names)


@contextlib.contextmanager
def locked_run_dir(run: Path, group: ProcessGroup) -> Iterator[None]:
    """Lock a run's folder for the processes of a group within the block.

    A process that a launcher restarts waits for the previous one to end.

    Raises:
        MachineError: Another run holds the lock.
    """
    patience = 0.0 if group.launch.name is None else group.timeout
    with contextlib.ExitStack() as stack:

        def lock() -> None:
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                with contextlib.suppress(MachineError):
                    stack.enter_context(locked(run))
                    return
                time.sleep(0.2)
            stack.enter_context(locked(run))

        group.run_on_rank_zero(lock)
        yield


def _run_dirs(name: str) -> list[Path]:
    """Return the folders of the runs of a name, the latest first."""
    numbers = {}
    for folder in RUNS_DIR.glob("*"):
        match = re.fullmatch(re.escape(name) + r"(?:-(\d+))?", folder.name)
        if match:
            numbers[folder] = int(match[1] or 1)
    return sorted(numbers, key=lambda folder: numbers[folder], reverse=True)


def _launch_mark(config: RunConfig, launch: str) -> str:
    """Return what identifies a launch of a config: the contents of `LAUNCH_FILE`."""
    digest = hashlib.sha256(json.dumps(to_dict(config)).encode()).hexdigest()
    return f"{launch}\nconfig {digest}\n"


def _read_mark(run: Path) -> str:
    try:
        return (run / LAUNCH_FILE).read_text("utf-8")
    except OSError:
        return ""
