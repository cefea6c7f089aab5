"""Train by a recipe: `wavenet-train recipe=demo`, `wavenet-train resume=RUN`."""

from pathlib import Path

from wavenet.cli.command import command
from wavenet.cli.compose import Composed
from wavenet.cli.options import TrainCommand
from wavenet.cli.resume import changed
from wavenet.cli.sweep import Outcome, outcome_of_run
from wavenet.errors import require


def train(options: TrainCommand, composed: Composed) -> Outcome:
    """Start a run or go on with one; return what it came to, with the code of a signal."""
    require("pytorch_lightning", "train")
    from wavenet.training import run
    from wavenet.training.signals import StopFlag

    stop = StopFlag()
    if options.resume is None:
        chosen = None if options.run_dir is None else Path(options.run_dir)
        folder = run.start(options.run, chosen, stop)
    else:
        folder = Path(options.resume)
        run.resume(changed(run.read_run(folder), composed), folder, stop)
    if stop.signal is None:
        return outcome_of_run(folder)
    print(f"stopped and saved; go on with: wavenet-train resume={folder}")
    return outcome_of_run(folder, 128 + stop.signal)


def main() -> None:
    """Run `wavenet-train`."""
    command("train", __file__, TrainCommand, train, extra="train", sweeps=True)


if __name__ == "__main__":
    main()
