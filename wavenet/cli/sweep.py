"""Several trainings of one command line, `-m`: a folder for each, and a table of what they came to.

Jobs may run in other processes and on other machines. So each writes what it came to into the
sweep's folder, `jobs/NUMBER.json`, and the command that started them puts that together:

    runs/sweep/demo/                        the second sweep's is runs/sweep/demo-2
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

from wavenet import checkpoint
from wavenet.cli.logging import listen_to_log
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError, WavenetError, printable
from wavenet.utils.files import new_numbered_folder, write_text

MULTIRUN = ("-m", "--multirun")
JOBS, SUMMARY = "jobs", "summary.json"
LONGEST = 120  # characters of a run's name
log = logging.getLogger("wavenet")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command's work came to.

    Attributes:
        code: The exit code.
        folder: Of the run, if there is one.
        bits: Held-out bits per sample of its best model; absent where none was measured.
    """

    code: int = 0
    folder: str | None = None
    bits: float | None = None


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """What a job of a sweep came to.

    Attributes:
        job: Its number, from 0.
        overrides: What differs from the others.
        folder: Of its run.
        bits: Held-out bits per sample of its best model.
        code: The exit code that it would have had by itself.
        error: Why it failed.
    """

    job: int
    overrides: tuple[str, ...]
    folder: str
    bits: float | None = None
    code: int = 0
    error: str | None = None


def outcome_of_run(folder: Path, code: int = 0) -> Outcome:
    """Return what a run came to, by the model that it exported, if it did."""
    bits = None
    if (folder / "model" / checkpoint.CONFIG).is_file():
        bits = checkpoint.read_config(folder / "model").training.bits_per_sample
    return Outcome(code=code, folder=str(folder), bits=bits)


def is_sweep(words: Sequence[str]) -> bool:
    """Return whether a command line asks for several jobs."""
    return any(word in MULTIRUN or word.upper() == "HYDRA.MODE=MULTIRUN" for word in words)


def new_folder(chosen: str | None, words: Sequence[str]) -> Path:
    """Make and return a sweep's folder; two sweeps that start together get one each.

    Args:
        chosen: The folder, if it was said.
        words: The command line, whose recipe gives the name.

    Raises:
        ConfigError: The folder holds something already.
    """
    if chosen is not None:
        folder = Path(chosen)
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"run_dir {printable(folder)} is not empty: choose another run_dir")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    said = [word.partition("=")[2] for word in words if word.startswith(("recipe=", "name="))]
    name = said[-1] if said and re.fullmatch(r"[\w-]+", said[-1]) else "train"
    return new_numbered_folder(Path("runs/sweep"), name)


def run_name(job: int, overrides: Sequence[str]) -> str:
    """Return the name of a job's run: its number and what differs, in harmless characters."""
    text = "-".join([str(job), *overrides])
    text = re.sub(r"\d+\.\d{5,}(e[+-]?\d+)?", lambda found: f"{float(found[0]):.4g}", text)
    return re.sub(r"[^A-Za-z0-9._]+", "-", text)[:LONGEST].strip("-.")


def differing(overrides: Sequence[str], fixed: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a job whose keys are not the same for all: the last of each key."""
    last = {word.partition("=")[0]: word for word in overrides}
    return tuple(word for key, word in last.items() if key not in fixed)


def begin(folder: Path, name: str, *, apart: bool) -> None:
    """Say that a job begins, and show what it logs.

    Args:
        folder: The sweep's.
        name: The job's.
        apart: Whether it runs in another process, beside others.
    """
    if apart:
        listen_to_log(f"job {name.partition('-')[0]}: ")
    log.info("job %s of %s", name, printable(folder))


def record(folder: Path, outcome: JobOutcome) -> float:
    """Write what a job came to; return what an optimiser makes smaller, infinity for a failure."""
    if outcome.error is not None:
        said = (outcome.job, printable(" ".join(outcome.overrides)), outcome.error)
        log.error("job %d failed (%s): %s", *said)
    path = folder / JOBS / f"{outcome.job}.json"
    write_text(path, json.dumps(asdict(outcome), indent=2) + "\n")
    return math.inf if outcome.bits is None or outcome.error is not None else outcome.bits


def failure(error: Exception) -> tuple[int, str]:
    """Return the exit code of an error, and what to say of it."""
    code = error.exit_code if isinstance(error, WavenetError) else 1
    return code, f"{type(error).__name__}: {printable(error)}"


def conclude(folder: Path) -> list[JobOutcome]:
    """Print the jobs, the best first, write that down too, and return them."""
    paths = sorted((folder / JOBS).glob("*.json"))
    found = [
        from_dict(JobOutcome, json.loads(path.read_text(encoding="utf-8")), str(path))
        for path in paths
    ]
    found.sort(key=lambda one: (one.bits is None, one.bits or 0.0, one.job))
    if not found:
        return found
    summary = [asdict(one) for one in found]
    write_text(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    print(table(found))
    print(f"summary: {printable(folder / SUMMARY)}")
    return found


def table(found: Sequence[JobOutcome]) -> str:
    """Return jobs as lines."""
    rows = [("job", "held-out bits", "what differs", "run")]
    for one in found:
        bits = "-" if one.bits is None else f"{one.bits:.3f}"
        said = printable(" ".join(one.overrides)) or "nothing"
        rows.append((str(one.job), bits, said, one.error or printable(one.folder)))
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{row[0]:>{wide[0]}}  {row[1]:>{wide[1]}}  {row[2]:{wide[2]}}  {row[3]}" for row in rows
    )
