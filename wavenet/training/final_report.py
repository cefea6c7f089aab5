"""The end of a run: its report, a verdict against the baselines, and what to do next."""

import dataclasses
import logging
from pathlib import Path

import torch

from wavenet import checkpoint
from wavenet.data.manifest import read_manifest
from wavenet.evaluation import plots
from wavenet.evaluation.evaluate import Evaluator
from wavenet.evaluation.held_out import held_out_split, split_name
from wavenet.evaluation.nll import MODEL
from wavenet.evaluation.report import write_report
from wavenet.evaluation.verdict import Verdict
from wavenet.training.checkpointing import checkpoint_step, find_checkpoints
from wavenet.training.options import RunConfig
from wavenet.training.validation import History, generate_command, resume_command
from wavenet.utils.errors import printable

LONGER = 10  # times, the advice for a model that is worse than its baseline
MAX_CHANGE = 0.01  # bits: a held-out curve that changes less is flat
EVALUATED_ON = {  # by split: its bits per sample differ from those of the validations
    "test": " on the held-out test recordings, which no validation has used",
    "validation": " on the held-out validation recordings",
}
log = logging.getLogger("wavenet")


def write_final_report(
    run: Path, config: RunConfig, history: History, device: torch.device
) -> None:
    """Evaluate `run/model`, the best model of a run, and write `run/report.html` and its card.

    The negative log-likelihood is computed on `device`.
    """
    loaded, folder = checkpoint.load(run / "model"), config.data.folder
    clips = held_out_split(read_manifest(folder))
    where = EVALUATED_ON[split_name(clips)] if clips else ""
    log.info("evaluating the model of step %d%s", loaded.training.steps, where)
    results = Evaluator(loaded, folder, clips, config.evaluation, config.seed, device).evaluate()
    log.info("%s", results.text())
    info = dataclasses.replace(loaded.training, evaluation=results.figures())
    checkpoint.save(loaded.model, run / "model", loaded.audio, info)
    results.facts["Seed"] = str(config.seed)
    curve = plots.learning_curve(
        history.train,
        history.val,
        {name: value for name, value in results.bits_per_sample.items() if name != MODEL},
    )
    plots.save(curve, run / "learning_curve.png")
    advice, command = next_step(run, config, history, results.verdict)
    write_report(
        run / "report.html",
        results,
        title=f"WaveNet: {config.name}",
        curve_png=(run / "learning_curve.png").read_bytes(),
        advice=advice,
        run=run,
        command=command,
        samples=run / "samples",
    )
    if advice:
        log.info("%s", advice)
    log.info("next: %s", command)
    log.info(
        "open %s to listen and look; the model is %s",
        printable(run / "report.html"),
        printable(run / "model"),
    )


def next_step(
    run: Path, config: RunConfig, history: History, verdict: Verdict | None
) -> tuple[str, str]:
    """Return what to do after a run, a sentence or nothing, and the command for it.

    Args:
        run: The run's folder.
        config: Its config.
        history: Its validations.
        verdict: On its best model, if there is one.
    """
    steps = config.trainer.max_steps
    longer = longer_command(run, config)
    generate = generate_command(run, config)
    best, bits = history.best_step, dict(history.val)
    if best is not None and best < 0.75 * steps and history.val[-1][1] > bits[best] + MAX_CHANGE:
        advice = (
            f"Held-out audio was predicted best at step {best:,} of {steps:,}, and worse after it: "
            "more recordings help, more steps do not."
        )
        return advice, generate
    length = config.optim.lr_schedule_steps or steps
    if steps < length:
        end = f"Training stopped at step {steps:,} of its schedule of {length:,}"
        return f"{end}: train to the end of it.", longer
    if verdict is not None and verdict.is_better is False:
        without = config.audio.mel is not None and config.model.predictor is None
        start = ", or start anew with recipe=vocoder, which learns faster" * without
        return f"Train ten times longer{start}.", longer
    if still_falls(history, steps):
        return "The curve still falls: training longer makes it better.", longer
    return "", generate


def model_behind(run: Path) -> str:
    """Return a sentence if the model of a run has fewer steps than its checkpoint, or nothing."""
    training = checkpoint.read_config(run / "model").training
    last = max(map(checkpoint_step, find_checkpoints(run)), default=0)
    if training.steps >= last:
        return ""
    best = "" if training.bits_per_sample is None else ", the best validation so far"
    return f"the model is of step {training.steps}{best}; the checkpoint of step {last}"


def longer_command(run: Path, config: RunConfig) -> str:
    """Return the command that trains on: to the end of the schedule, or with it stretched."""
    length = config.optim.lr_schedule_steps
    if length is not None and config.trainer.max_steps < length:
        return resume_command(run, length)
    steps = LONGER * config.trainer.max_steps
    return f"{resume_command(run, steps)} optim.lr_schedule_steps={steps}"


def still_falls(history: History, steps: int) -> bool:
    """Return whether the held-out bits fell in the last quarter of a run's steps."""
    before = [bits for step, bits in history.val if step <= 0.75 * steps]
    return bool(before) and history.val[-1][1] < before[-1] - MAX_CHANGE
