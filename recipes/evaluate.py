"""Evaluate a model: `wavenet-evaluate RUN/model`."""

import dataclasses
import json
import logging
from pathlib import Path

import wavenet
from wavenet.cli.commands import EvaluateCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_process
from wavenet.config import check_frames
from wavenet.evaluation.evaluate import Evaluator, ShardedEvaluation
from wavenet.evaluation.held_out import held_out_clips
from wavenet.evaluation.report import write_report
from wavenet.pretrained import find_model
from wavenet.utils.device import find_device
from wavenet.utils.errors import printable
from wavenet.utils.sharding import Shard

log = logging.getLogger("wavenet")


def evaluate(options: EvaluateCommand, composed: Composed) -> None:
    """Print bits per sample and resynthesis metrics with baselines; write a listening page."""
    show = log.info if options.json else print  # with json=true, stdout is JSON only
    model_dir, page = find_model(options.checkpoint), options.page

    # The model, and clips that its training has not used.
    loaded = wavenet.load(model_dir)
    if loaded.training.steps:  # those of an imported model are not known
        log.info("%s: step %d", printable(options.checkpoint), loaded.training.steps)
    check_frames(loaded.model.config, loaded.audio)
    folder, clips = held_out_clips(model_dir, loaded, options.data)
    settings = options.evaluation
    temperature = loaded.training.temperature
    if temperature is not None and "evaluation.temperature" not in composed.overridden:
        settings = dataclasses.replace(settings, temperature=temperature)
    device = find_device(options.device)
    evaluator = Evaluator(loaded, folder, clips, settings, options.seed, device)

    # Negative log-likelihood of the clips, and their resynthesis with metrics. Several jobs can
    # share these steps: each writes the results of its shard, and the last command merges them.
    shards = ShardedEvaluation(evaluator, model_dir, options.place)
    if options.shard is not None:
        path = shards.evaluate(Shard.from_text(options.shard), overwrite=options.overwrite)
        show(f"shard {options.shard}: {path}")
        if options.json:
            print(path.read_text(encoding="utf-8"), end="")
        return
    if options.merge_shards is None:
        nll, resyntheses = evaluator.nll(), evaluator.resynthesize()
    else:
        nll, resyntheses = shards.merge(options.merge_shards)

    # Baselines, which are fitted on all clips, and the recordings to listen to.
    evaluation = evaluator.summarize(nll, resyntheses)
    show(evaluation.text())
    if page is not None:
        own_folder = Path(options.checkpoint).exists()
        name = model_dir.resolve().parent.name if own_folder else options.checkpoint
        write_report(page, evaluation, title=f"WaveNet: {name}")
        show(f"open {page} to listen")
    if options.json:
        print(json.dumps(evaluation.to_json(), indent=2))


if __name__ == "__main__":
    run_process("evaluate", evaluate)
