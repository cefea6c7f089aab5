"""Hydra's part: groups, recipes and overrides become one plain mapping.

Keys that are paths never pass Hydra's grammar: what follows the first `=` is taken as it is, so
that spaces, `=`, `,`, `#`, brackets and any alphabet just work; `null` alone means none.
"""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavenet.cli import sweep
from wavenet.cli.sweep import Outcome
from wavenet.conventions import CONVENTIONS
from wavenet.errors import ConfigError, EnvironmentFault, WavenetError, printable
from wavenet.plain import nearest, to_dict

PATHS = (
    "checkpoint",
    "data.prepared",
    "data.root",
    "input",
    "output",
    "prompt",
    "resume",
    "run_dir",
    "speaker",
)
FLAGS = {"--json": "json=true"}  # what is commonly said with dashes
PLUGINS = ("joblib", "optuna", "submitit_local", "submitit_slurm")  # of Hydra, in the extra sweep
SIGNALLED = 128  # exit codes from here on are a signal's
log = logging.getLogger("wavenet")


@dataclass(frozen=True)
class Composed:
    """A composed config.

    Attributes:
        plain: All of it, as plain data.
        said: The keys that the command line named, in order.
    """

    plain: dict[str, Any]
    said: tuple[str, ...]


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
        return self.task(Composed(_plain(config, paths), _keys(words)))


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
        sweep.begin(self.folder, name)
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

    given = [FLAGS.get(word, word) for word in sys.argv[1:]]
    paths, rest = split_paths(given)
    _refuse_foreign_words(rest)
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
        for left in job.left:
            if isinstance(left, Exception):
                raise left
        return max((left.code for left in job.left if isinstance(left, Outcome)), default=0)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, conf, name)) from error
    finally:
        sys.argv = [before[0], *given]


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
    fixed = tuple(str(one.key_or_group) for one in parsed if not one.is_sweep_override())
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
        raise EnvironmentFault(
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


def quoted(text: str) -> str:
    """Return text as Hydra's grammar takes it literally."""
    literal = text.replace("${", r"\${")
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", literal)
    ending = re.search(r"\\*$", escaped)
    return f"'{escaped}{ending[0] if ending else ''}'"


def register_resolvers(conf: Path) -> None:
    """Teach configs `${recipes:PATH}`, a path in `recipes/`, and `${mel:NAME}`, a mel convention.

    A convention is all its keys; `${audio.mel.bins}` and the like see into it.

    Args:
        conf: The folder of configs.
    """
    from omegaconf import DictConfig, OmegaConf

    def recipes(name: str) -> str:
        return str(conf.parent / "recipes" / name)

    def mel(name: str) -> DictConfig:
        if name not in CONVENTIONS:
            known = nearest(name, CONVENTIONS)
            raise ConfigError(f"no mel convention {printable(name)!r}{known}")
        return OmegaConf.create(to_dict(CONVENTIONS[name]))

    OmegaConf.clear_resolver("oc.env")
    OmegaConf.register_new_resolver("recipes", recipes, replace=True)
    OmegaConf.register_new_resolver("mel", mel, replace=True)


def split_paths(arguments: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the path overrides, taken literally, and all other arguments."""
    paths: dict[str, str] = {}
    rest = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in PATHS:
            if not value:
                raise ConfigError(f"{key}= names no path: say {key}=PATH, or leave it out")
            paths[key] = value
        else:
            rest.append(argument)
    return paths, rest


def _refuse_foreign_words(arguments: Iterable[str]) -> None:
    for argument in arguments:
        if argument.startswith(("+", "~")):
            raise ConfigError(
                f"{printable(argument)!r}: configs are closed, no key is added or removed; "
                "say KEY=VALUE for a known key (--help lists them)"
            )
        if argument.startswith("--") and "." in argument.partition("=")[0]:
            raise ConfigError(f"{printable(argument)!r}: write it without the dashes")
        if "/" in argument and "=" not in argument:
            raise ConfigError(f"{printable(argument)!r} says no key: write KEY=PATH")


def _keys(arguments: Iterable[str]) -> tuple[str, ...]:
    pairs = (argument.partition("=") for argument in arguments)
    return tuple(key for key, equals, _ in pairs if equals and not key.startswith(("-", "hydra.")))


def _plain(config: Any, paths: Mapping[str, str]) -> dict[str, Any]:
    """Return the config as plain data, with the paths put in."""
    from omegaconf import OmegaConf, open_dict

    for key, value in paths.items():
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is None or leaf not in list(node):  # `in` overlooks what is still to be said
            raise ConfigError(f"unknown key {key!r}: this command has no such path")
        with open_dict(node):
            node[leaf] = None if value == "null" else value.replace("${", r"\${")
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} is not said: add {missing[0]}=... to the command line")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _explain(error: Exception, conf: Path, name: str) -> str:
    """Return in a sentence what Hydra found wrong, with the nearest key or choice."""
    from hydra.errors import MissingConfigException, OverrideParseException

    own = _own(error)
    if own is not None:
        return str(own)
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if group in ("hydra/launcher", "hydra/sweeper") and choice in PLUGINS:
            return (
                f"{group}={choice} is a plugin that is not installed: it comes with "
                "pip install 'torch-wavenet[sweep]'"
            )
        return f"{group}={printable(choice)}: no such choice{nearest(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{printable(error.override)!r} does not read as KEY=VALUE: {printable(text, 300)}"
    match = re.search(r"Could not override '([^']+)'", text)
    if match:
        return f"unknown key {match[1]!r}{nearest(match[1], known_keys(conf, name))}"
    return printable(text.replace("\n", " "), limit=500)


def _own(error: BaseException) -> ConfigError | None:
    """Return the error of ours that a resolver raised and OmegaConf wrapped, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__ or cause.__context__
    return cause


def known_keys(conf: Path, name: str) -> list[str]:
    """Return the dotted keys and the groups of a command's config."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf), version_base="1.3"):
        plain = OmegaConf.to_container(compose(name), resolve=False)

    def dotted(node: Any, prefix: str) -> list[str]:
        if not isinstance(node, dict):
            return [prefix]
        inner = [dotted(value, f"{prefix}.{key}" if prefix else key) for key, value in node.items()]
        return [prefix] * bool(prefix) + [key for keys in inner for key in keys]

    return [*dotted(plain, ""), "recipe", "cluster", "search"]
