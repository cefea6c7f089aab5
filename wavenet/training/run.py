"""A run's folder and config: made for a new run, locked while it trains, found to resume it."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import wavenet
from wavenet.data.dataset import divide_batch
from wavenet.data.preparation.prepare import ensure_prepared, ensure_same_data
from wavenet.model import meta_model
from wavenet.training.checkpointing import (
    CHECKPOINTS_DIR,
    DamagedCheckpoint,
    checkpoint_step,
    find_checkpoints,
    read_checkpoint,
)
from wavenet.training.data import resolve_config
from wavenet.training.distributed.launcher import requeue
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.freeze import freeze
from wavenet.training.init_weights import copy_weights
from wavenet.training.optim import hold_schedule, schedule_line
from wavenet.training.options import RunConfig
from wavenet.training.resume import refuse_without_checkpoints
from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState
from wavenet.training.validation import History
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.dataclass_io import from_dict, nearest, to_dict
from wavenet.utils.device import check_device
from wavenet.utils.errors import ConfigError, MachineError, printable
from wavenet.utils.files import locked, new_numbered_folder, remove_leftovers, write_text
from wavenet.utils.strict_json import parse_json

CONFIG_FILE = "run.json"
DATASET_KEY = "dataset"  # in it, next to the keys of the config
LAUNCH_FILE = "launch"
RUNS_DIR = Path("runs")
ELSEWHERE = "use run_dir=FOLDER for a place that can be written"
COPY_IT = "copy the run to a place that can be written, and resume it there"
log = logging.getLogger("wavenet")


def read_run(run: Path) -> RunConfig:
    """Return the config of a run.

    Raises:
        ConfigError: The folder holds no run.
    """
    return _read_run(run)[0]


def _read_run(run: Path) -> tuple[RunConfig, DataIdentity | None]:
    """Return the config of a run, and which clips it is trained with."""
    path = run / CONFIG_FILE
    if not run.exists():
        runs = [config.parent.name for config in run.parent.glob(f"*/{CONFIG_FILE}")]
        near = nearest(run.name, runs)
        raise ConfigError(f"there is no folder {printable(run)}{near}")
    if not path.is_file():
        hint = "If it was stopped before its first step, start it again"
        if (run.parent / CONFIG_FILE).is_file():
            hint = f"It is part of one: resume={printable(run.parent)}"
        raise ConfigError(f"{printable(run)} is no run: it has no {CONFIG_FILE}. {hint}")
    try:
        plain = parse_json(path.read_bytes())
        dataset = plain.pop(DATASET_KEY, None) if isinstance(plain, dict) else None
        identity = None if dataset is None else from_dict(DataIdentity, dataset, str(path))
        return from_dict(RunConfig, plain, str(path)), identity
    except (OSError, ValueError) as error:
        raise ConfigError(f"{printable(path)}: {printable(error)}") from error


def start_run(config: RunConfig, run: Path | None, group: ProcessGroup) -> tuple[RunConfig, Path]:
    """Prepare the data and make the folder of a new run; return its full config and folder.

    A launch that started the run before, with the same config, finds it again.

    Args:
        config: From the command line.
        run: The folder; `None` for `runs/NAME`, or `runs/NAME-2` and so on if that exists.
        group: The processes.

    Raises:
        CheckpointError: The launch's own run has lost its checkpoints.
        ConfigError: The folder is not empty.
    """
    launch = group.launch.name

    def start() -> tuple[RunConfig, Path]:
        found = find_relaunched_run(config, run, launch)
        if found is not None:
            log.info("%s was started by this launch (%s)", printable(found), printable(launch))
            if (found / CONFIG_FILE).is_file():
                refuse_without_checkpoints(found, read_run(found).trainer)
                return prepare_data(read_run(found), group, found), found
        complete = resolve_config(prepare_data(config, group))
        return complete, found or new_run_dir(config, run, launch)

    complete, folder = group.run_on_rank_zero(start)
    log.info("run folder: %s", printable(folder))
    return complete, folder


def resume_run(config: RunConfig, run: Path, group: ProcessGroup) -> RunConfig:
    """Prepare the data of a run that is resumed, if that is not done; return its config.

    The learning rate keeps its schedule, see `hold_schedule`, unless another
    `optim.lr_schedule_steps` is given.

    Args:
        config: With the overrides of the command line.
        run: The run's folder.
        group: The processes.

    Raises:
        CheckpointError: The run has lost its checkpoints.
        ConfigError: The run has more steps already.
    """

    def resume() -> RunConfig:
        done = max(map(checkpoint_step, find_checkpoints(run)), default=0)
        if not done:
            refuse_without_checkpoints(run, read_run(run).trainer)
        if config.trainer.max_steps < done:
            raise ConfigError(
                f"trainer.max_steps={config.trainer.max_steps}: {printable(run)} has {done} steps "
                "already; give as many or more"
            )
        optim, before = config.optim, read_run(run)
        if optim.lr_schedule_steps in (None, before.optim.lr_schedule_steps):
            steps = before.trainer.max_steps, config.trainer.max_steps
            optim = hold_schedule(before.optim, *steps)
        return prepare_data(dataclasses.replace(config, optim=optim), group, run)

    return group.run_on_rank_zero(resume)


def log_schedule(run: Path, config: RunConfig, step: int, group: ProcessGroup) -> None:
    """Log what a resumed run's learning rate does after `step` updates, see `schedule_line`.

    The config before is that of `run.json`, until `write_config` replaces it.
    """

    def log_line() -> None:
        if not (run / CONFIG_FILE).is_file():
            return  # a new run
        before = read_run(run)
        steps = before.trainer.max_steps, config.trainer.max_steps
        line = schedule_line(before.optim, config.optim, step, *steps)
        if line is not None:
            log.info("%s", line)

    group.run_on_rank_zero(log_line)


def prepare_data(config: RunConfig, group: ProcessGroup, run: Path | None = None) -> RunConfig:
    """Check what fails early, and prepare the data; return the config with absolute paths.

    If `run` is resumed, its data must be those that it started with.
    """
    check_device(config.trainer.device, "trainer.device")
    check_freeze(config)
    divide_batch(
        config.trainer.global_batch_size, group.size, config.trainer.accumulate_grad_batches
    )
    if run is None:
        folder = ensure_prepared(config.data, config.audio)
    else:
        folder = ensure_same_data(config.data, _read_run(run)[1], run, config.audio)
    return dataclasses.replace(config, data=config.data.at(folder))


def check_freeze(config: RunConfig) -> None:
    """Check `trainer.freeze` before the data, whose speakers are part of the model, are there.

    Raises:
        ConfigError: A pattern matches nothing, or nothing is left to train.
    """
    if config.trainer.freeze:
        count = max(config.model.num_speakers, int(config.data.use_speakers))
        model = meta_model(dataclasses.replace(config.model, num_speakers=count))
        freeze(model, config.trainer.freeze)


def is_finished(config: RunConfig, run: Path, group: ProcessGroup) -> bool:
    """Return whether a run has made its last update, its validation, and its report if asked for.

    One whose last checkpoint is damaged has not: it goes on from the one before. A report that is
    older than the last checkpoint, or was made with other options, is made again.

    Args:
        config: The run's, perhaps with overrides.
        run: The run's folder.
        group: The processes.
    """

    def finished() -> bool:
        last = next(reversed(find_checkpoints(run)), None)
        if last is None or checkpoint_step(last) != config.trainer.max_steps:
            return False
        if config.evaluation.sample_seconds and not _has_report(run, config, last):
            return False
        try:
            history = read_checkpoint(last).get("history", {})
        except DamagedCheckpoint:
            return False
        return isinstance(history, dict) and history.get("pending_validation") is None

    return group.run_on_rank_zero(finished)


def _has_report(run: Path, config: RunConfig, last: Path) -> bool:
    report = run / "report.html"
    if not report.is_file() or config.evaluation != read_run(run).evaluation:
        return False
    return report.stat().st_mtime >= last.stat().st_mtime


def start_from_model(
    config: RunConfig, state: TrainingState, history: History, group: ProcessGroup
) -> None:
    """Give a new run the weights of `config.init`, the EMA too; they are validated at step 0."""

    def copy() -> None:
        assert config.init is not None
        base, names = wavenet.load(config.init), config.audio.speaker_names
        for line in copy_weights(state.model, base, names, config.init_ignore):
            log.info("init: %s", line)

    group.run_on_rank_zero(copy)
    group.broadcast_parameters(state.model.parameters())
    if state.ema_model is not None:
        state.ema_model.load_state_dict(state.model.state_dict())
    history.pending_validation = state.step


def write_config(run: Path, config: RunConfig, identity: DataIdentity, group: ProcessGroup) -> None:
    """Write `run.json`, and remove half-written files that a killed process left."""

    def write() -> None:
        remove_leftovers(run / CHECKPOINTS_DIR)
        remove_leftovers(run / "samples")
        for name in (CONFIG_FILE, "model", "report.html", "learning_curve.png"):
            remove_leftovers(run, name)
        plain = {**to_dict(config), DATASET_KEY: to_dict(identity)}
        write_text(run / CONFIG_FILE, json.dumps(plain, indent=2) + "\n")

    group.run_on_rank_zero(write)


def requeue_if_preempted(config: RunConfig, stop: StopFlag, group: ProcessGroup) -> None:
    """Requeue the Slurm job if SIGUSR1 stopped it and `trainer.auto_requeue` asks for that."""

    def requeue_job() -> None:
        preempted = stop.signal is not None and stop.signal.name == "SIGUSR1"
        if preempted and config.trainer.auto_requeue:
            requeue(os.environ.get("SLURM_JOB_ID"))

    group.run_on_rank_zero(requeue_job)  # the others wait: Slurm may end the step with the first


def find_relaunched_run(config: RunConfig, run: Path | None, launch: str | None) -> Path | None:
    """Return the folder of the run that this launch started with this config, if it did.

    The config is that of the command line, before anything is taken from the data.
    """
    if launch is None:
        return None
    mark = _launch_mark(config, launch)
    folders = [run] if run is not None else _run_dirs(config.name)
    return next((folder for folder in folders if _read_mark(folder) == mark), None)


def new_run_dir(config: RunConfig, run: Path | None, launch: str | None) -> Path:
    """Make and return a run's folder; two runs that start together get one each.

    Arguments as in `find_relaunched_run`; the folder keeps the name of the launch.

    Raises:
        ConfigError: The folder is not empty.
        MachineError: It cannot be made.
    """
    if run is None:
        with _as_machine_error(RUNS_DIR / config.name, ELSEWHERE):
            run = new_numbered_folder(RUNS_DIR, config.name)
        if run.name != config.name:
            log.info("a new run; resume=%s goes on with the first", RUNS_DIR / config.name)
    elif run.exists() and not run.is_dir():
        raise ConfigError(f"run_dir {printable(run)} is no folder: choose another run_dir")
    elif run.exists() and not _is_abandoned(run):
        raise ConfigError(
            f"run_dir {printable(run)} is not empty: resume={printable(run)} continues that run, "
            "or choose another run_dir"
        )
    with _as_machine_error(run, ELSEWHERE):
        run.mkdir(parents=True, exist_ok=True)
    if launch is not None:
        write_text(run / LAUNCH_FILE, _launch_mark(config, launch))
    return run


@contextlib.contextmanager
def locked_run_dir(run: Path, group: ProcessGroup) -> Iterator[None]:
    """Lock a run's folder for the processes of a group within the block.

    A process that a launcher restarts waits for the previous one to end. A folder that holds
    nothing when the block ends, such as that of a run interrupted at once, is removed.

    Raises:
        MachineError: Another run holds the lock, or the folder cannot be written.
    """
    patience = 0.0 if group.launch.name is None else group.timeout
    with contextlib.ExitStack() as stack:

        def lock() -> None:
            advice = COPY_IT if (run / CONFIG_FILE).exists() else ELSEWHERE
            deadline = time.monotonic() + patience
            with _as_machine_error(run, advice):
                while time.monotonic() < deadline:
                    with contextlib.suppress(MachineError):
                        stack.enter_context(locked(run))
                        return
                    time.sleep(0.2)
                stack.enter_context(locked(run))

        group.run_on_rank_zero(lock)
        try:
            yield
        finally:
            stack.close()
            if group.rank == 0:
                _remove_abandoned(run)


@contextlib.contextmanager
def _as_machine_error(run: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = printable(error.filename or run)
        raise MachineError(f"cannot write {place}: {error.strerror or error}; {advice}") from error


def _is_abandoned(run: Path) -> bool:
    """Return whether a folder holds no more than a run leaves that is killed at once."""
    names = {entry.name for entry in run.iterdir()}
    return all(name == "lock" or name.startswith((".run.json.", ".launch.")) for name in names)


def _remove_abandoned(run: Path) -> None:
    """Remove a run's folder if it holds no more than that; `launch` keeps it for a restart."""
    with contextlib.suppress(OSError):
        if _is_abandoned(run):
            for entry in [*run.iterdir()]:
                entry.unlink()
            run.rmdir()


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
