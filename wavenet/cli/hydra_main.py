"""Hydra's main function for a command: one job, or the jobs of a sweep (`-m`)."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavenet.cli import sweep
from wavenet.cli.commands import COMMANDS
from wavenet.cli.compose import (
    Composed,
    check_words,
    mel_by_name,
    overridden_keys,
    quoted,
    register_configs,
    split_paths,
    to_plain,
)
from wavenet.cli.hydra_errors import explain
from wavenet.cli.sweep import CommandResult
from wavenet.utils.errors import ConfigError, MachineError, WavenetError, printable

DASHED = {"--json": "json=true"}  # accepted in place of an override
FIRST_SIGNAL_CODE = 128  # exit codes of signals start here
log = logging.getLogger("wavenet")

Task = Callable[[Composed], CommandResult]


class SweepStopped(BaseException):
    """A signal ended a job: the jobs after it do not start."""


@dataclass(frozen=True)
class Job:
    """What Hydra calls with a config. It can be pickled: launchers run it in other processes.

    Attributes:
        conf: The folder of configs.
        script: The command as it was called.
        words: The command line.
        task: Called with the composed config.
    """

    conf: Path
    script: str
    words: tuple[str, ...]
    task: Task

    def run(self, config: Any, words: Sequence[str]) -> CommandResult:
        """Run the task with a config.

        Args:
            config: From Hydra.
            words: The command line that composes it alone.
        """
        register_configs(self.conf)
        sys.argv = [self.script, *words]  # for libraries that start this command again
        paths, _ = split_paths(words)
        return self.task(Composed(to_plain(config, paths), overridden_keys(words)))


@dataclass(frozen=True)
class CommandJob(Job):
    """The only job of a command.

    Attributes:
        results: Its result or its error, which is raised outside of Hydra.
    """

    results: list[CommandResult | Exception] = field(default_factory=list)

    def __call__(self, config: Any) -> None:
        try:
            self.results.append(self.run(config, self.words))
        except Exception as error:  # noqa: BLE001
            self.results.append(error)


@dataclass(frozen=True)
class SweepJob(Job):
    """One of the jobs of a sweep.

    Attributes:
        folder: Folder of the sweep.
        fixed: Keys that are the same for all jobs.
        process: Process that started the sweep.
    """

    folder: Path
    fixed: tuple[str, ...]
    process: int

    def __call__(self, config: Any) -> float:
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        number, overrides = int(hydra.job.num), [str(word) for word in hydra.overrides.task]
        own = sweep.differing(overrides, self.fixed)
        name = sweep.run_name(number, own)
        run = str(self.folder / name)
        sweep.begin(self.folder, name, other_process=os.getpid() != self.process)
        code, bits, reason = 1, None, None
        try:
            paths = [f"{key}={value}" for key, value in split_paths(self.words)[0].items()]
            result = self.run(config, [*overrides, *paths, f"run_dir={run}"])
            code, bits = result.code, result.bits
        except Exception as error:  # noqa: BLE001 the other jobs continue
            code, reason = sweep.failure(error)
        job = sweep.JobResult(
            job=number, overrides=own, folder=run, bits=bits, code=code, error=reason
        )
        objective = sweep.record(self.folder, job)
        if code >= FIRST_SIGNAL_CODE and os.getpid() == self.process:
            raise SweepStopped
        return objective


def compose_and_run(conf: Path, verb: str, task: Task) -> int:
    """Compose `conf/VERB.yaml` with the command line, call `task`, and return its exit code.

    With `-m`, `task` is called for each config of the sweep, in the processes of Hydra's launcher,
    and the code is the worst.

    Args:
        conf: The folder of configs.
        verb: The command.
        task: Called with the composed config; not called for Hydra's `--cfg` and the like.

    Raises:
        ConfigError: The command line does not fit the configs.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    composing_errors = (HydraException, OmegaConfBaseException)
    words = [DASHED.get(word, word) for word in sys.argv[1:]]
    paths, rest = split_paths(words)
    check_words(verb, rest)
    rest = [mel_by_name(word) for word in rest]
    several = sweep.is_sweep(rest)
    if several:
        _check_sweep(verb, paths)
    register_configs(conf)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors; they are reported by us
    before = list(sys.argv)
    try:
        if several:
            return _run_sweep(conf, verb, task, paths, rest)
        given = (*(f"{key}={value}" for key, value in paths.items()), *rest)
        job = CommandJob(conf, before[0], given, task)
        if any(word.startswith(("-", "hydra.", "hydra/")) for word in rest):
            _hydra(conf, verb, job, rest)
        else:
            job(_compose(conf, verb, rest))
    except (*composing_errors, ValueError) as error:
        raise ConfigError(explain(error, verb)) from error
    finally:
        sys.argv = [before[0], *words]
    for result in job.results:
        if isinstance(result, composing_errors):
            raise ConfigError(explain(result, verb)) from result
        if isinstance(result, Exception):
            raise result
    codes = (result.code for result in job.results if isinstance(result, CommandResult))
    return max(codes, default=0)


def _compose(conf: Path, verb: str, words: Sequence[str]) -> Any:
    """Compose once; Hydra's main function, for its flags and sweeps, composes twice."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose(verb, overrides=list(words))


def _hydra(conf: Path, name: str, job: Job, words: Sequence[str]) -> None:
    import hydra

    sys.argv[1:] = words
    hydra.main(config_path=str(conf), config_name=name, version_base="1.3")(job)()  # type: ignore[arg-type]


def _run_sweep(
    conf: Path, verb: str, task: Task, paths: dict[str, str], rest: Sequence[str]
) -> int:
    """Run all jobs of a sweep; print their results however it ends."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    overrides = [word for word in rest if not word.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = {str(one.key_or_group) for one in parsed if one.is_sweep_override()}
    fixed = tuple(key for key in (str(one.key_or_group) for one in parsed) if key not in swept)
    folder = sweep.new_folder(paths.pop("run_dir", None), rest)
    words = (*(f"{key}={value}" for key, value in paths.items()), *rest)
    job = SweepJob(conf, sys.argv[0], words, task, folder, fixed, os.getpid())
    results: list[sweep.JobResult] = []
    try:
        others = [word for word in rest if word not in sweep.MULTIRUN]  # -m may be anywhere
        _hydra(conf, verb, job, ["-m", *others, f"hydra.sweep.dir={quoted(str(folder))}"])
    except SweepStopped:
        log.warning("stopped: the remaining jobs do not start")
    except (HydraException, OmegaConfBaseException, WavenetError, OSError):
        raise
    except Exception as error:
        raise MachineError(
            f"the sweep ended early: {type(error).__name__}: {printable(error)}"
        ) from error
    finally:
        results = sweep.conclude(folder)
        if not results:
            _remove_empty(folder)
    return max((result.code for result in results), default=0)


def _remove_empty(folder: Path) -> None:
    """Remove the folder of a sweep of which no job started."""
    (folder / "multirun.yaml").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _check_sweep(verb: str, paths: Mapping[str, str]) -> None:
    if not COMMANDS[verb].sweeps:
        raise ConfigError(
            f"wavenet-{verb} has no -m: sweeps are for training, use wavenet-train -m"
        )
    if "resume" in paths:
        raise ConfigError("-m starts new runs: leave resume out, or resume one run without -m")
