"""Train by a recipe: `wavenet-train recipe=demo`, `wavenet-train resume=RUN`.

On two GPUs: `torchrun --standalone --nproc-per-node=2 $(which wavenet-train) recipe=ljspeech`.
"""

import logging
from pathlib import Path

import torch

from wavenet.cli.commands import TrainCommand
from wavenet.cli.compose import Composed, with_overrides, without_foreign_license
from wavenet.cli.main import run_process
from wavenet.cli.sweep import CommandResult, run_result
from wavenet.evaluation.workload import evaluation_workload
from wavenet.model import WaveNet
from wavenet.training.acceleration import accelerate, keep_freed_memory
from wavenet.training.audio_preview import build_preview
from wavenet.training.checkpointing import CheckpointManager, find_checkpoints
from wavenet.training.data import load_training_data
from wavenet.training.distributed.gradient_sync import GradientSync
from wavenet.training.distributed.process_group import ProcessGroup, join_process_group
from wavenet.training.final_report import longer_command, model_behind, write_final_report
from wavenet.training.freeze import freeze, log_trainable
from wavenet.training.init_config import config_from_model
from wavenet.training.loader import build_loader
from wavenet.training.loggers import build_loggers, require_loggers
from wavenet.training.loop import Objective, TrainingLoop
from wavenet.training.options import RunConfig
from wavenet.training.progress import training_progress
from wavenet.training.resume import load_last_checkpoint
from wavenet.training.run import (
    is_finished,
    locked_run_dir,
    log_schedule,
    read_run,
    requeue_if_preempted,
    resume_run,
    start_from_model,
    start_run,
    write_config,
)
from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState, derive_seed
from wavenet.training.validation import History, Validation, generate_command, resume_command
from wavenet.utils.errors import printable

log = logging.getLogger("wavenet")


def train(options: TrainCommand, composed: Composed) -> CommandResult:
    """Start or resume a run; return its result, with the exit code of a signal."""
    stop, config = StopFlag(), options.run
    if options.resume is not None:
        config = with_overrides(read_run(Path(options.resume)), composed)
    require_loggers(config.trainer.logger)

    with join_process_group(config.trainer) as group:
        if options.resume is not None:
            run = Path(options.resume)
            if is_finished(config, run, group):
                longer = longer_command(run, config)
                steps = config.trainer.max_steps
                log.info(
                    "%s is finished: step %d was the last; longer: %s",
                    *(printable(run), steps, longer),
                )
                return run_result(run)
            config = resume_run(config, run, group)
        else:
            config = without_foreign_license(config, composed)
            chosen = None if options.run_dir is None else Path(options.run_dir)
            if config.init is not None:
                from_recipe, keys = config, composed.overridden
                config = group.run_on_rank_zero(lambda: config_from_model(from_recipe, keys))
            config, run = start_run(config, chosen, group)
            if is_finished(config, run, group):
                log.info(
                    "%s is finished: another launch, or run_dir=FOLDER, starts anew", printable(run)
                )
                return run_result(run)
        with locked_run_dir(run, group):
            fit(config, run, group, stop)
        requeue_if_preempted(config, stop, group)

    if stop.signal is None:
        return run_result(run)
    if group.rank == 0:
        stopped = "stopped and saved" if find_checkpoints(run) else "stopped before the first step"
        print(f"{stopped}; resume with: {resume_command(run)}")
        if (run / "model").is_dir():
            behind = model_behind(run)
            if behind:
                print(behind)
            print(f"listen with: {generate_command(run, config)}")
    return run_result(run, 128 + stop.signal)


def fit(config: RunConfig, run: Path, group: ProcessGroup, stop: StopFlag) -> None:
    """Train from the last checkpoint, or from new weights, to the end or a signal; then report."""
    options, data = config.trainer, load_training_data(config)

    torch.manual_seed(config.seed)
    model = WaveNet(config.model)
    if group.rank > 0:
        torch.manual_seed(derive_seed(config.seed, group.rank))  # each rank has its own dropout
    accelerate(model, options)
    if options.freeze:
        freeze(model, options.freeze)
        log_trainable(model)
    state, history = TrainingState(model, config.optim, group.device), History()
    sync = GradientSync(group, stop)
    checkpoints = CheckpointManager(run, options, history, sync, data.digest)
    resumed = load_last_checkpoint(run, state, history, data.digest, group)
    if config.init is not None and not resumed:
        start_from_model(config, state, history, group)
        checkpoints.save(state, last=True)  # so that MODEL is needed no more
    log_schedule(run, config, state.step, group)
    write_config(run, config, data.identity, group)
    if state.step >= options.max_steps and history.pending_validation is None:
        log.info("step %d was the last; longer: %s", state.step, longer_command(run, config))

    keep_freed_memory()
    loader = build_loader(data, config, step=state.step, group=group)
    loggers = build_loggers(config, run, state.step) if group.rank == 0 else None
    preview = build_preview(data, config, stop, loggers)
    report = None
    if config.evaluation.sample_seconds:
        report = evaluation_workload(model, config.audio, data.held_out, config.evaluation)
    with (
        stop.listening(),
        group.raise_on_lost_peer(),
        loader.raise_on_lost_worker(),
        training_progress(config, run, state.step, history, loader, group, report) as progress,
    ):
        TrainingLoop(
            state=state,
            objective=Objective(model, config.audio, torch_compile=options.torch_compile),
            loader=loader,
            sync=sync,
            validation=Validation(
                run, config, history, sync, data.info, data.windows, preview, loggers
            ),
            checkpoints=checkpoints,
            progress=progress,
            optim=config.optim,
            options=options,
        ).run()
    if loggers is not None:
        loggers.close()
    stop.signal = stop.signal or sync.stop.signal

    if not stop and report is not None:
        group.run_on_rank_zero(lambda: write_final_report(run, config, history, group.device))


if __name__ == "__main__":
    run_process("train", train)
