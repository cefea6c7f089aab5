"""What Hydra calls with a composed config: the job of a command, or each of a sweep's, `-m`."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavenet.cli import sweep
from wavenet.cli.compose import (
    Composed,
    keys_said,
    plain_with,
    quoted,
    refuse_foreign_words,
    register_resolvers,
    split_paths,
)
from wavenet.cli.hydra_errors import explain
from wavenet.cli.sweep import Outcome
from wavenet.utils.errors import ConfigError, MachineError, WavenetError, printable

DASHED = {"--json": "json=true"}  # what is commonly said with dashes
SIGNALLED = 128  # exit codes from here on are a signal's
log = logging.getLogger("wavenet")

Task = Callable[[Composed], Outcome]


class Stopped(BaseException):
    """A signal ended a job: the jobs after it do not begin."""


@dataclass(frozen=True)
class Job:
    """What Hydra calls with a config. It can be pickled: launchers run it in other processes.

    Attributes:
        conf: The folder of configs.
        script: The command, as it was called.
        words: What was said.
        task: Called with the composed config.
    """

    conf: Path
    script: str
    words: tuple[str, ...]
    task: Task

    def compose_and_do(self, config: Any, words: Sequence[str]) -> Outcome:
        """Do the task of a config.

        Args:
            config: From Hydra.
            words: What would compose it by itself.
        """
        register_resolvers(self.conf)
        sys.argv = [self.script, *words]  # for a library that starts this command again
        paths, _ = split_paths(words)
        return self.task(Composed(plain_with(config, paths), keys_said(words)))


@dataclass(frozen=True)
class SingleJob(Job):
    """A job that is all of the command.

    Attributes:
        left: What it came to, or its error: told outside, without Hydra's words around it.
    """

    left: list[Outcome | Exception] = field(default_factory=list)

    def __call__(self, config: Any) -> None:
        try:
            self.left.append(self.compose_and_do(config, self.words))
        except Exception as error:  # noqa: BLE001
            self.left.append(error)


@dataclass(frozen=True)
class SweepJob(Job):
    """One of the jobs of a sweep.

    Attributes:
        folder: The sweep's.
        fixed: Keys that are the same for all jobs.
        process: The one that started the sweep.
    """

    folder: Path
    fixed: tuple[str, ...]
    process: int

    def __call__(self, config: Any) -> float:
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        number, overrides = int(hydra.job.num), [str(word) for word in hydra.overrides.task]
        told = sweep.differing(overrides, self.fixed)
        name = sweep.run_name(number, told)
        run = str(self.folder / name)
        sweep.begin(self.folder, name, apart=os.getpid() != self.process)
        code, bits, reason = 1, None, None
        try:
            paths = [f"{key}={value}" for key, value in split_paths(self.words)[0].items()]
            done = self.compose_and_do(config, [*overrides, *paths, f"run_dir={run}"])
            code, bits = done.code, done.bits
        except Exception as error:  # noqa: BLE001 the others still run
            code, reason = sweep.failure(error)
        found = sweep.JobOutcome(
            job=number, overrides=told, folder=run, bits=bits, code=code, error=reason
        )
        worth = sweep.record(self.folder, found)
        if code >= SIGNALLED and os.getpid() == self.process:
            raise Stopped
        return worth


def compose_with(conf: Path, name: str, task: Task, *, sweeps: bool = False) -> int:
    """Compose `conf/name.yaml` with the command line, call `task`, and return its exit code.

    With `-m`, `task` is called for each of the configs that the command line sweeps over, in
    whatever process Hydra's launcher takes, and the code is the worst.

    Args:
        conf: The folder of configs.
        name: The primary config.
        task: Called with the composed config; not called for `--help` and its like.
        sweeps: Whether `-m` makes sense for this command.

    Raises:
        ConfigError: The command line does not fit the configs.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    of_composing = (HydraException, OmegaConfBaseException)
    given = [DASHED.get(word, word) for word in sys.argv[1:]]
    paths, rest = split_paths(given)
    refuse_foreign_words(rest)
    several = sweep.is_sweep(rest)
    if several:
        _refuse_sweep(name, paths, sweeps)
    register_resolvers(conf)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors on; they are told below
    before = list(sys.argv)
    try:
        if several:
            return _sweep(conf, name, task, given)
        job = SingleJob(conf, before[0], tuple(given), task)
        _hydra(conf, name, job, rest)
    except (*of_composing, ValueError) as error:
        raise ConfigError(explain(error, conf, name)) from error
    finally:
        sys.argv = [before[0], *given]
    for left in job.left:
        if isinstance(left, of_composing):
            raise ConfigError(explain(left, conf, name)) from left
        if isinstance(left, Exception):
            raise left
    return max((left.code for left in job.left if isinstance(left, Outcome)), default=0)


def _hydra(conf: Path, name: str, job: Job, words: Sequence[str]) -> None:
    import hydra

    sys.argv[1:] = words
    hydra.main(config_path=str(conf), config_name=name, version_base="1.3")(job)()  # type: ignore[arg-type]


def _sweep(conf: Path, name: str, task: Task, given: Sequence[str]) -> int:
    """Do all jobs of a sweep; tell what they came to, however it ends."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    paths, rest = split_paths(given)
    said = [word for word in rest if not word.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(said)
    swept = {str(one.key_or_group) for one in parsed if one.is_sweep_override()}
    fixed = tuple(key for key in (str(one.key_or_group) for one in parsed) if key not in swept)
    folder = sweep.new_folder(paths.pop("run_dir", None), rest)
    words = (*(f"{key}={value}" for key, value in paths.items()), *rest)
    job = SweepJob(conf, sys.argv[0], words, task, folder, fixed, os.getpid())
    found: list[sweep.JobOutcome] = []
    try:
        others = [word for word in rest if word not in sweep.MULTIRUN]  # -m may stand anywhere
        _hydra(conf, name, job, ["-m", *others, f"hydra.sweep.dir={quoted(str(folder))}"])
    except Stopped:
        log.warning("stopped: the jobs that had not begun are left out")
    except (HydraException, OmegaConfBaseException, WavenetError, OSError):
        raise
    except Exception as error:
        raise MachineError(
            f"the sweep ended early: {type(error).__name__}: {printable(error)}"
        ) from error
    finally:
        found = sweep.conclude(folder)
        if not found:
            _remove_empty(folder)
    return max((one.code for one in found), default=0)


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a sweep of which no job began."""
    (folder / "multirun.yaml").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _refuse_sweep(name: str, paths: Mapping[str, str], sweeps: bool) -> None:
    if not sweeps:
        raise ConfigError(
            f"wavenet-{name} does one thing at a time: -m sweeps over trainings, wavenet-train -m"
        )
    if "resume" in paths:
        raise ConfigError("-m starts new runs: leave resume out, or go on with one run without -m")
