"""Sweeps (`-m`): several trainings of one command line, a folder for each, and a table of results.

Jobs may run in other processes and on other machines. Each writes its result into the folder of
the sweep, `jobs/NUMBER.json`, and the command that started them collects the results:

    runs/sweep/demo/                        the second sweep is runs/sweep/demo-2
      0-optim.lr-0.001/                     a run: number, and what differs
      1-optim.lr-0.0003/
      summary.json
"""

import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wavenet.cli.logging import log_to_stderr
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError, WavenetError, printable
from wavenet.utils.files import new_numbered_folder, write_text

MULTIRUN = ("-m", "--multirun")
JOBS_FOLDER, SUMMARY_FILE = "jobs", "summary.json"
MAX_NAME_LENGTH = 120  # characters of a run's name
log = logging.getLogger("wavenet")


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """Result of a command.

    Attributes:
        code: The exit code.
        folder: Folder of the run, if there is one.
        bits: Held-out bits per sample of its best model; `None` without a validation.
    """

    code: int = 0
    folder: str | None = None
    bits: float | None = None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result of a job of a sweep.

    Attributes:
        job: Its number, from 0.
        overrides: The overrides that differ from those of the other jobs.
        folder: Folder of its run.
        bits: Held-out bits per sample of its best model.
        code: The exit code of the same command on its own.
        error: Why it failed.
    """

    job: int
    overrides: tuple[str, ...]
    folder: str
    bits: float | None = None
    code: int = 0
    error: str | None = None


def run_result(folder: Path, code: int = 0) -> CommandResult:
    """Return the result of a run, from the model that it exported if it did."""
    from wavenet import checkpoint

    bits = None
    if (folder / "model" / checkpoint.CONFIG).is_file():
        bits = checkpoint.read_config(folder / "model").training.bits_per_sample
    return CommandResult(code=code, folder=str(folder), bits=bits)


def is_sweep(words: Sequence[str]) -> bool:
    """Return whether a command line asks for several jobs."""
    return any(word in MULTIRUN or word.upper() == "HYDRA.MODE=MULTIRUN" for word in words)


def new_folder(chosen: str | None, words: Sequence[str]) -> Path:
    """Create and return the folder of a sweep; sweeps that start together get one each.

    Args:
        chosen: The folder, if given.
        words: The command line; its recipe gives the name.

    Raises:
        ConfigError: The folder is not empty.
    """
    if chosen is not None:
        folder = Path(chosen)
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"run_dir {printable(folder)} is not empty: choose another run_dir")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    names = [word.partition("=")[2] for word in words if word.startswith(("recipe=", "name="))]
    name = names[-1] if names and re.fullmatch(r"[\w-]+", names[-1]) else "train"
    return new_numbered_folder(Path("runs/sweep"), name)


def run_name(job: int, overrides: Sequence[str]) -> str:
    """Return the name of a job's run: its number and what differs, in portable characters."""
    text = "-".join([str(job), *overrides])
    text = re.sub(r"\d+\.\d{5,}(e[+-]?\d+)?", lambda found: f"{float(found[0]):.4g}", text)
    return re.sub(r"[^A-Za-z0-9._]+", "-", text)[:MAX_NAME_LENGTH].strip("-.")


def differing(overrides: Sequence[str], fixed: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a job whose keys are not the same for all: the last of each key."""
    last = {word.partition("=")[0]: word for word in overrides}
    return tuple(word for key, word in last.items() if key not in fixed)


def begin(folder: Path, name: str, *, other_process: bool) -> None:
    """Log the start of a job.

    Args:
        folder: Folder of the sweep.
        name: Name of the job.
        other_process: Whether the job runs in another process than the sweep.
    """
    if other_process:
        log_to_stderr(f"job {name.partition('-')[0]}: ")
    log.info("job %s of %s", name, printable(folder))


def record(folder: Path, result: JobResult) -> float:
    """Write the result of a job; return the objective of an optimizer, infinity for a failure."""
    if result.error is not None:
        values = (result.job, printable(" ".join(result.overrides)), result.error)
        log.error("job %d failed (%s): %s", *values)
    path = folder / JOBS_FOLDER / f"{result.job}.json"
    write_text(path, json.dumps(asdict(result), indent=2) + "\n")
    return math.inf if result.bits is None or result.error is not None else result.bits


def failure(error: Exception) -> tuple[int, str]:
    """Return the exit code of an error, and its message."""
    code = error.exit_code if isinstance(error, WavenetError) else 1
    return code, f"{type(error).__name__}: {printable(error)}"


def conclude(folder: Path) -> list[JobResult]:
    """Print and write the results, the best first, and return them."""
    paths = sorted((folder / JOBS_FOLDER).glob("*.json"))
    results = [
        from_dict(JobResult, json.loads(path.read_text(encoding="utf-8")), str(path))
        for path in paths
    ]
    results.sort(key=lambda one: (one.bits is None, one.bits or 0.0, one.job))
    if not results:
        return results
    summary = [asdict(one) for one in results]
    write_text(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    print(table(results))
    print(f"summary: {printable(folder / SUMMARY_FILE)}")
    return results


def table(results: Sequence[JobResult]) -> str:
    """Return results as lines."""
    rows = [("job", "held-out bits", "what differs", "run")]
    for one in results:
        bits = "-" if one.bits is None else f"{one.bits:.3f}"
        differences = printable(" ".join(one.overrides)) or "nothing"
        rows.append((str(one.job), bits, differences, one.error or printable(one.folder)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:{widths[2]}}  {row[3]}"
        for row in rows
    )
