"""A run's folder: made for it alone, held while it trains, and found when it is started again."""

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

LAUNCH = "launch"
RUNS = Path("runs")


def started_before(config: RunConfig, run: Path | None, launch: str | None) -> Path | None:
    """Return the folder of the run that this launch began with this config, if it did.

    Args:
        config: As the command line says it, before anything is taken from the data.
        run: The folder that was chosen; absent for one in `runs`.
        launch: The launch's name; absent if nothing starts this process again.
    """
    if launch is None:
        return None
    folders = [run] if run is not None else _numbered(config.name)
    return next((folder for folder in folders if _read(folder) == _mark(config, launch)), None)


def new_folder(config: RunConfig, run: Path | None, launch: str | None) -> Path:
    """Make and return a run's folder; two runs that start together get one each.

    Args:
        config: As the command line says it.
        run: The folder; absent for `runs/NAME`, or `runs/NAME-2` and so on where that is taken.
        launch: The launch's name, kept in the folder.

    Raises:
        ConfigError: The folder holds something already.
    """
    if run is None:
        run = new_numbered_folder(RUNS, config.name)
    elif run.exists() and not _only_begun(run):
        way_out = f"resume={printable(run)} goes on with it, or choose another run_dir"
        raise ConfigError(f"run_dir {printable(run)} is not empty: {way_out}")
    run.mkdir(parents=True, exist_ok=True)
    if launch is not None:
        write_text(run / LAUNCH, _mark(config, launch))
    return run


def _only_begun(run: Path) -> bool:
    """Whether a folder holds no more than what a run that was killed at once left there."""
    names = {entry.name for entry in run.iterdir()}
    return all(name == "lock" or name.startswith((".run.json.", ".launch.")) for name in names)


@contextlib.contextmanager
def held(run: Path, team: ProcessGroup) -> Iterator[None]:
    """Hold a run's folder for the team within the block.

    A process that a launcher starts again waits for the one before it to end.

    Raises:
        MachineError: Another run holds it, or it is not the same folder for all processes.
    """
    patience = 0.0 if team.launch.name is None else team.timeout
    with contextlib.ExitStack() as stack:

        def hold() -> None:
            until = time.monotonic() + patience
            while time.monotonic() < until:
                with contextlib.suppress(MachineError):
                    stack.enter_context(locked(run))
                    return
                time.sleep(0.2)
            stack.enter_context(locked(run))

        team.share(hold)
        yield


def _numbered(name: str) -> list[Path]:
    """Return the folders of the runs of a name, the latest first."""
    numbers = {}
    for folder in RUNS.glob("*"):
        match = re.fullmatch(re.escape(name) + r"(?:-(\d+))?", folder.name)
        if match:
            numbers[folder] = int(match[1] or 1)
    return sorted(numbers, key=lambda folder: numbers[folder], reverse=True)


def _mark(config: RunConfig, launch: str) -> str:
    digest = hashlib.sha256(json.dumps(to_dict(config)).encode()).hexdigest()
    return f"{launch}\nconfig {digest}\n"


def _read(run: Path) -> str:
    try:
        return (run / LAUNCH).read_text("utf-8")
    except OSError:
        return ""
