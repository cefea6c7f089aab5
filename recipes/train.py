"""Train by a recipe: `wavenet-train recipe=demo`, `wavenet-train resume=RUN`.

On two GPUs: `torchrun --standalone --nproc-per-node=2 $(which wavenet-train) recipe=ljspeech`.
"""

from pathlib import Path

from wavenet.cli.compose import Composed
from wavenet.cli.main import run_command
from wavenet.cli.resume import with_overrides
from wavenet.cli.sweep import CommandResult, run_result
from wavenet.training.options import TrainCommand
from wavenet.utils.errors import require


def train(options: TrainCommand, composed: Composed) -> CommandResult:
    """Start a run or go on with one; return what it came to, with the code of a signal."""
    require("pytorch_lightning", "train")
    from wavenet.training import run
    from wavenet.training.distributed.process_group import assembled
    from wavenet.training.signals import StopFlag

    stop = StopFlag()
    folder = None if options.resume is None else Path(options.resume)
    config = options.run if folder is None else with_overrides(run.read_run(folder), composed)
    with assembled(config.trainer) as team:
        if folder is None:
            chosen = None if options.run_dir is None else Path(options.run_dir)
            folder = run.start(config, chosen, stop, team)
        else:
            run.resume(config, folder, stop, team)
    if stop.signal is None:
        return run_result(folder)
    if team.rank == 0:
        print(f"stopped and saved; go on with: wavenet-train resume={folder}")
    return run_result(folder, 128 + stop.signal)


if __name__ == "__main__":
    run_command("train", train)
