"""The commands' entry points: Hydra composes, a dataclass checks, errors become exit codes.

    0 done    2 command line or config    3 audio or data    4 checkpoint
    5 disk, permission, lock, missing extra    130 SIGINT    143 SIGTERM    138 SIGUSR1

A config never names code: there is no `_target_`, and Hydra's resolvers of the environment are off.
A recipe is imported once its config is valid, its model is there and its output is not, so that
help and errors of typing take no time.
"""

import contextlib
import functools
import importlib.util
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import wavenet
from wavenet.cli.commands import COMMANDS, command_config, command_name
from wavenet.cli.compose import (
    Composed,
    explain,
    mel_by_name,
    register_configs,
    run_hydra,
    split_paths,
)
from wavenet.cli.help import HELP_FLAGS, help_text, help_topic
from wavenet.cli.quiet import quiet_libraries
from wavenet.cli.sweep import CommandResult, is_sweep, run_sweep, run_task
from wavenet.cli.words import as_overrides, check_words
from wavenet.kernels.second_process import compiling_kernel
from wavenet.model_directory import check_model
from wavenet.utils.collector import without_collector
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import (
    ConfigError,
    MachineError,
    WavenetError,
    is_out_of_memory,
    printable,
    require,
)
from wavenet.utils.progress import log_to_stderr
from wavenet.utils.signals import signals_deferred

RESUME = ("resume=", "--resume")  # the options of a resumed run are fixed
Task = Callable[[Any, Composed], CommandResult | None]


class ReceivedSignal(BaseException):
    """SIGTERM or SIGUSR1, raised like `KeyboardInterrupt` so that open files are cleaned up."""


def run_command(verb: str, task: Task | None = None) -> NoReturn:
    """Run a command with the words of `sys.argv`, and exit with its code.

    Args:
        verb: Name of the command and of its config in conf/.
        task: Called with the command's options and the composed config; `None` for the function
            of the recipe.
    """
    words = sys.argv[1:]
    debug, code = bool({"debug=true", "--debug", "--debug=true"} & {*words}), 0
    # OpenMP's threads would spin while they wait: where cores are shared, that starves the others.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        log_to_stderr()
        with _signals_raise(), contextlib.nullcontext() if debug else quiet_libraries():
            if {*HELP_FLAGS} & {*words}:
                require("omegaconf", COMMANDS[verb].extra)
                print(help_text(conf_folder(), verb, help_topic(words)))
            elif {*words} == {"--version"}:
                print(f"torch-wavenet {wavenet.__version__}")
            else:
                begins = _samples_on_cpu(verb, as_overrides(verb, words))
                with compiling_kernel() if begins else contextlib.nullcontext():
                    code = compose_and_run(
                        conf_folder(), verb, functools.partial(_run_checked, verb, task)
                    )
            sys.exit(code)
    except (KeyboardInterrupt, ReceivedSignal, SystemError) as error:
        end = _signal_behind(error)
        if end is None:
            raise
        how, number = "interrupted", int(signal.SIGINT)
        if isinstance(end, ReceivedSignal):
            how, number = "terminated", end.args[0]
        _print_error(f"{how}; no partial files are left")
        sys.exit(128 + number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (WavenetError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        if debug:
            traceback.print_exc()
        _report(error, verb, words)
        _exit(error.exit_code if isinstance(error, WavenetError) else MachineError.exit_code)


def run_process(verb: str, task: Task | None = None) -> NoReturn:
    """Run a command as `run_command` does, in a process of its own, which ends with it.

    Once the command has ended, its exit code stands: Python takes a while to end, and a SIGINT
    would kill it there, although the output is complete.
    """
    try:
        run_command(verb, task)
    finally:
        with contextlib.suppress(KeyboardInterrupt):  # one that came before the call
            signal.signal(signal.SIGINT, signal.SIG_IGN)


prepare = functools.partial(run_process, "prepare")
train = functools.partial(run_process, "train")
generate = functools.partial(run_process, "generate")
evaluate = functools.partial(run_process, "evaluate")
benchmark = functools.partial(run_process, "benchmark")
benchmark_train = functools.partial(run_process, "benchmark_train")
benchmark_blocks = functools.partial(run_process, "benchmark_blocks")
inspect = functools.partial(run_process, "inspect")
import_model = functools.partial(run_process, "import")
push = functools.partial(run_process, "push")


def compose_and_run(conf: Path, verb: str, task: Callable[[Composed], CommandResult]) -> int:
    """Compose `conf/VERB.yaml` with the command line, call `task`, and return its exit code.

    With `-m`, `task` is called for each config of the sweep, in the processes of Hydra's launcher,
    and the code is the worst. For Hydra's `--cfg` and the like it is not called.

    Raises:
        ConfigError: The command line does not fit the configs.
    """
    script, words = sys.argv[0], as_overrides(verb, sys.argv[1:])
    paths, rest = split_paths(words)
    check_words(verb, rest)
    rest = [mel_by_name(word) for word in rest]
    several = is_sweep(verb, words)

    hydra = require("hydra", COMMANDS[verb].extra)
    from omegaconf.errors import OmegaConfBaseException

    composing_errors = (hydra.errors.HydraException, OmegaConfBaseException)
    with signals_deferred():
        register_configs(conf)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors; they are reported by us
    results: list[CommandResult | Exception] = []

    def job(config: Any) -> None:
        given = (*(f"{key}={value}" for key, value in paths.items()), *rest)
        try:
            results.append(run_task(task, config, script, given))
        except Exception as error:  # noqa: BLE001 raised outside of Hydra
            results.append(error)

    try:
        if several:
            return run_sweep(conf, verb, task, paths, rest)
        if any(word.startswith(("-", "hydra.", "hydra/")) for word in rest):
            run_hydra(conf, verb, job, rest, paths)
        else:
            with signals_deferred(), hydra.initialize_config_dir(str(conf), version_base="1.3"):
                config = hydra.compose(verb, overrides=rest)
            job(config)
    except (*composing_errors, ValueError) as error:
        raise ConfigError(explain(error, verb)) from error
    finally:
        sys.argv = [script, *words]
    for result in results:
        if isinstance(result, composing_errors):
            raise ConfigError(explain(result, verb)) from result
        if isinstance(result, Exception):
            raise result
        return result.code
    return 0


def _samples_on_cpu(verb: str, words: Iterable[str]) -> bool:
    """Return whether a command may use the CPU sampler, from its words alone: composing takes time.

    Without a backend among its keys it samples nothing, or compiles as it goes along.
    """
    given = [word.partition("=")[2] for word in words if word.startswith("backend=")]
    return [command_config(verb).get("backend"), *given][-1] in ("auto", "cpu")


def _run_checked(verb: str, task: Task | None, composed: Composed) -> CommandResult:
    """Check a composed config by the command's dataclass, then call the task or the recipe."""
    spec = COMMANDS[verb]
    options = from_dict(spec.options, composed.plain)
    if isinstance(getattr(options, "checkpoint", None), str):
        check_model(options.checkpoint)
    options.check_files()
    if task is None:
        find_recipes()
        with without_collector():
            recipe = require(f"wavenet.recipes.{spec.recipe}", spec.extra)
        task = getattr(recipe, spec.function or verb)
    return task(options, composed) or CommandResult()


def conf_folder() -> Path:
    """Return the folder of configs: inside the installed package, or next to it in a checkout."""
    package = Path(wavenet.__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def find_recipes() -> None:
    """Make the recipes of a checkout, next to the package, importable as `wavenet.recipes`.

    In an installed package they are part of it.
    """
    if importlib.util.find_spec("wavenet.recipes") is None:
        folder = conf_folder().with_name("recipes")
        spec = importlib.util.spec_from_file_location("wavenet.recipes", folder / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = package
        spec.loader.exec_module(package)


def _signal_behind(error: BaseException | None) -> BaseException | None:
    """Return what a signal raised; C code that calls Python makes a `SystemError` of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt | ReceivedSignal):
        error = error.__cause__
    return error


def _report(error: Exception, verb: str, words: Sequence[str]) -> None:
    """Print the error that ended the command, unless another process reports it.

    What it names to go on with is appended to the command line.
    """
    if isinstance(error, WavenetError):
        text = f"{type(error).__name__}: {error}"
        is_shown = all(printable(word) == word and not word.startswith(RESUME) for word in words)
        if error.overrides and is_shown:
            command = [command_name(verb), *words, *error.overrides]
            text += f"\nThis goes on: {shlex.join(command)}"
        if not error.reported_elsewhere:
            _print_error(text)
    elif isinstance(error, OSError):
        place = f"{printable(error.filename)}: " if error.filename else ""
        _print_error(f"MachineError: {place}{error.strerror or printable(error)}")
    else:
        reason = f": {printable(error)}" if str(error) else ""
        _print_error(f"MachineError: not enough memory, use a smaller batch or model{reason}")


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    def raise_signal(number: int, frame: FrameType | None) -> None:
        raise ReceivedSignal(number)

    names = ("SIGTERM", "SIGUSR1")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, raise_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(code: int) -> NoReturn:
    """Exit with a code.

    A member of a process group exits without Python's cleanup, which frees what PyTorch's threads
    still use and sometimes aborts.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _print_error(message: str) -> None:
    sys.stdout.flush()
    print("\n".join(message.splitlines()[:20]), file=sys.stderr)
