"""Train by a recipe: `wavenet-train recipe=demo`, `wavenet-train resume=RUN`.

On two GPUs: `torchrun --standalone --nproc-per-node=2 $(which wavenet-train) recipe=ljspeech`.
"""

import logging
from pathlib import Path

import wavenet
from wavenet import training
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_command
from wavenet.cli.resume import with_overrides
from wavenet.cli.sweep import CommandResult, run_result
from wavenet.training.options import TrainCommand
from wavenet.utils.errors import require
from wavenet.utils.progress import progress

log = logging.getLogger("wavenet")


def train(options: TrainCommand, composed: Composed) -> CommandResult:
    """Start or resume a run; return its result, with the exit code of a signal."""
    require("tensorboard", "train")
    stop = training.StopFlag()
    config = options.run
    if options.resume is not None:
        config = with_overrides(training.read_run(Path(options.resume)), composed)

    with training.join_process_group(config.trainer) as group:
        if options.resume is not None:
            run = Path(options.resume)
            config = training.resume_run(config, run, group)
        else:
            chosen = None if options.run_dir is None else Path(options.run_dir)
            config, run = training.start_run(config, chosen, group)
            if training.is_finished(config, run, group):
                log.info("%s is finished: another launch, or run_dir=FOLDER, starts anew", run)
                return run_result(run)
        with training.locked_run_dir(run, group):
            fit(config, run, group, stop)
        training.requeue_if_preempted(config, stop, group)

    if stop.signal is None:
        return run_result(run)
    if group.rank == 0:
        print(f"stopped and saved; resume with: wavenet-train resume={run}")
    return run_result(run, 128 + stop.signal)


def fit(
    config: training.RunConfig, run: Path, group: training.ProcessGroup, stop: training.StopFlag
) -> None:
    """Train from the last checkpoint, or from new weights, to the end or a signal; then report."""
    data = training.load_training_data(config)
    training.seed_everything(config.seed)
    model = wavenet.WaveNet(config.model)
    if group.rank > 0:
        training.seed_everything(config.seed, group.rank)  # each process draws its own dropout
    training.accelerate(model, config.trainer)
    state = training.TrainingState(model, config.optim, group.device)
    history = training.History()
    training.load_last_checkpoint(run, state, history, data.digest, group)
    training.write_config(run, config, data.identity, group)

    if state.step < config.trainer.max_steps or history.pending_validation is not None:
        with stop.listening(), group.raise_on_lost_peer():
            run_loop(config, run, group, stop, data, state, history)
    else:
        log.info("step %d was the last: trainer.max_steps=N continues", state.step)

    if not stop and config.evaluation.sample_seconds:
        group.run_on_rank_zero(lambda: training.write_final_report(run, config, history))


def run_loop(
    config: training.RunConfig,
    run: Path,
    group: training.ProcessGroup,
    stop: training.StopFlag,
    data: training.TrainingData,
    state: training.TrainingState,
    history: training.History,
) -> None:
    """Build what the training loop needs, and run it."""
    options = config.trainer
    training.keep_freed_memory()
    loader = training.build_loader(data, config, step=state.step, group=group)
    sync = training.GradientSync(group, stop)
    tensorboard = training.TensorBoard(run, state.step) if group.rank == 0 else None
    preview = training.build_preview(data, config, stop, tensorboard)
    validation = training.Validation(
        run, options, history, sync, config.audio, data.info, data.windows, preview, tensorboard
    )
    bar = progress(
        options.max_steps,
        unit="step",
        description="training",
        initial=state.step,
        disable=group.rank > 0,
    )
    with loader.raise_on_lost_worker(), bar as advance:
        training.TrainingLoop(
            state,
            training.Objective(state.model, config.audio, torch_compile=options.torch_compile),
            loader,
            sync,
            validation,
            training.CheckpointManager(run, options, history, sync, data.digest),
            training.TrainingProgress(advance, config, history, loader),
            config.optim,
            options,
        ).run()
    if tensorboard is not None:
        tensorboard.close()
    stop.signal = stop.signal or sync.stop.signal


if __name__ == "__main__":
    run_command("train", train)
