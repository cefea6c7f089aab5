"""Sweeps (`-m`): several trainings of one command line, a folder for each, and a table of results.

Jobs may run in other processes and on other machines. Each writes its result into the folder of
the sweep, `jobs/NUMBER.json`, and the command that started them collects the results:

    runs/sweep/demo/                        the second sweep is runs/sweep/demo-2
      0-optim.lr-0.001/                     a run: number, and what differs
      1-optim.lr-0.0003/
      summary.json
"""

import contextlib
import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wavenet.cli.commands import command_name
from wavenet.cli.compose import (
    Composed,
    quoted,
    register_configs,
    run_hydra,
    split_paths,
    to_plain,
)
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError, MachineError, WavenetError, printable
from wavenet.utils.files import new_numbered_folder, write_text
from wavenet.utils.progress import log_to_stderr

MULTIRUN = ("-m", "--multirun")
JOBS_FOLDER, SUMMARY_FILE = "jobs", "summary.json"
MAX_NAME_LENGTH = 120  # characters of a run's name
log = logging.getLogger("wavenet")


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """Result of a command."""

    code: int = 0  # exit code
    folder: str | None = None  # of the run, if there is one
    bits: float | None = None  # held-out bits per sample of its best model, if it was validated


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result of a job of a sweep."""

    job: int  # number, from 0
    overrides: tuple[str, ...]  # those that differ from the other jobs'
    folder: str  # of its run
    bits: float | None = None  # held-out bits per sample of its best model
    code: int = 0  # exit code of the same command on its own
    error: str | None = None  # why it failed


Task = Callable[[Composed], CommandResult]


class SweepStopped(BaseException):
    """A signal ended a job: the jobs after it do not start."""


def run_task(task: Task, config: Any, script: str, words: Sequence[str]) -> CommandResult:
    """Call a task with a config of Hydra's; `script` and `words` compose it alone."""
    sys.argv = [script, *words]  # for libraries that start this command again
    paths, _ = split_paths(words)
    pairs = (word.partition("=") for word in words)
    overridden = (key for key, equals, _ in pairs if equals and not key.startswith(("-", "hydra.")))
    return task(Composed(to_plain(config, paths), tuple(overridden)))


def run_result(folder: Path, code: int = 0) -> CommandResult:
    """Return the result of a run, from the model that it exported if it did."""
    from wavenet import checkpoint

    bits = None
    if (folder / "model" / checkpoint.CONFIG).is_file():
        bits = checkpoint.read_config(folder / "model").training.bits_per_sample
    return CommandResult(code=code, folder=str(folder), bits=bits)


def is_sweep(verb: str, words: Sequence[str]) -> bool:
    """Return whether a command line asks for several jobs.

    Raises:
        ConfigError: The command has no sweeps, or resumes a run.
    """
    if not any(word in MULTIRUN or word.upper() == "HYDRA.MODE=MULTIRUN" for word in words):
        return False
    if verb != "train":
        raise ConfigError(
            f"{command_name(verb)} has no -m: sweeps are for training, use wavenet-train -m"
        )
    if any(word.startswith("resume=") for word in words):
        raise ConfigError("-m starts new runs: leave resume out, or resume one run without -m")
    return True


@dataclass(frozen=True)
class SweepJob:
    """What Hydra calls for each job. It can be pickled: launchers run it in other processes."""

    conf: Path  # folder of configs
    script: str  # the command as it was called
    words: tuple[str, ...]  # its command line
    task: Task  # called with each composed config
    folder: Path  # of the sweep
    fixed: tuple[str, ...]  # keys that are the same for all jobs
    process: int  # that started the sweep

    def __call__(self, config: Any) -> float:
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        number, overrides = int(hydra.job.num), [str(word) for word in hydra.overrides.task]
        own = differing(overrides, self.fixed)
        name = run_name(number, own)
        run = str(self.folder / name)
        if os.getpid() != self.process:
            register_configs(self.conf)
            log_to_stderr(f"job {number}: ")
        log.info("job %s of %s", name, printable(self.folder))
        code, bits, reason = 1, None, None
        try:
            paths = [f"{key}={value}" for key, value in split_paths(self.words)[0].items()]
            words = [*overrides, *paths, f"run_dir={run}"]
            result = run_task(self.task, config, self.script, words)
            code, bits = result.code, result.bits
        except Exception as error:  # noqa: BLE001 the other jobs continue
            code = error.exit_code if isinstance(error, WavenetError) else 1
            reason = f"{type(error).__name__}: {printable(error)}"
        job = JobResult(job=number, overrides=own, folder=run, bits=bits, code=code, error=reason)
        objective = record(self.folder, job)
        if code >= 128 and os.getpid() == self.process:  # the code of a signal
            raise SweepStopped
        return objective


def run_sweep(
    conf: Path, verb: str, task: Task, paths: Mapping[str, str], rest: Sequence[str]
) -> int:
    """Call a task for each config of a sweep, print the results, and return the worst code.

    The processes of Hydra's launcher call it. `paths` are the path overrides of the command line,
    `rest` its other words.

    Raises:
        ConfigError: The command line fits no sweep.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    overrides = [word for word in rest if not word.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = {str(one.key_or_group) for one in parsed if one.is_sweep_override()}
    fixed = tuple(key for key in (str(one.key_or_group) for one in parsed) if key not in swept)
    folder = new_folder(paths.get("run_dir"), rest)
    common = (f"{key}={value}" for key, value in paths.items() if key != "run_dir")
    job = SweepJob(conf, sys.argv[0], (*common, *rest), task, folder, fixed, os.getpid())
    results: list[JobResult] = []
    try:
        others = [word for word in rest if word not in MULTIRUN]  # -m may be anywhere
        run_hydra(conf, verb, job, ["-m", *others, f"hydra.sweep.dir={quoted(str(folder))}"])
    except SweepStopped:
        log.warning("stopped: the remaining jobs do not start")
    except (HydraException, OmegaConfBaseException, WavenetError, OSError):
        raise
    except Exception as error:
        raise MachineError(
            f"the sweep ended early: {type(error).__name__}: {printable(error)}"
        ) from error
    finally:
        results = conclude(folder)
        if not results:  # no job started
            (folder / "multirun.yaml").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
    return max((result.code for result in results), default=0)


def new_folder(chosen: str | None, words: Sequence[str]) -> Path:
    """Create and return the folder of a sweep, `chosen` or named after the recipe in `words`.

    Sweeps that start together get one each.

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


def record(folder: Path, result: JobResult) -> float:
    """Write the result of a job; return the objective of an optimizer, infinity for a failure."""
    if result.error is not None:
        values = (result.job, printable(" ".join(result.overrides)), result.error)
        log.error("job %d failed (%s): %s", *values)
    path = folder / JOBS_FOLDER / f"{result.job}.json"
    write_text(path, json.dumps(asdict(result), indent=2) + "\n")
    return math.inf if result.bits is None or result.error is not None else result.bits


def conclude(folder: Path) -> list[JobResult]:
    """Print and write the results, the best first, and return them."""
    paths = sorted((folder / JOBS_FOLDER).glob("*.json"))
    results = [
        from_dict(JobResult, json.loads(path.read_text(encoding="utf-8")), str(path))
        for path in paths
    ]
    results.sort(key=lambda one: (one.bits is None, one.bits or 0.0, one.job))
    if results:
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
