"""`wavenet-evaluate`'s choice of audio and of work.

Audio is the model's own held-out clips unless told otherwise. Work is all of it, a shard's, or
adding up what the shards have measured.
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavenet import checkpoint
from wavenet.data.manifest import read_manifest
from wavenet.data.options import DataOptions
from wavenet.data.preparation.ensure import ensure_prepared
from wavenet.evaluation import evaluate as listening
from wavenet.evaluation.evaluate import Subject
from wavenet.evaluation.options import EvaluateCommand, EvaluationOptions
from wavenet.evaluation.partial_results import about, gathered, read_share, share_path, write_share
from wavenet.evaluation.scores import held_out, samples_measured
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.progress import progress
from wavenet.utils.sharding import Shard

OUTPUT = "evaluation.html"  # beside which shares lie where no page is wanted
log = logging.getLogger("wavenet")


def subject_of(options: EvaluateCommand) -> Subject:
    """Return the checkpoint, a prepared folder, and the clips of it that are held out.

    Raises:
        ConfigError: No audio was named, and the checkpoint lies in no run; or the page exists.
        DataError: Nothing is held out, or the clips have another rate than the model.
    """
    page = page_of(options)
    if page is not None and page.exists() and not options.overwrite:
        raise ConfigError(f"{printable(page)} exists: choose another output, or overwrite=true")
    loaded = checkpoint.load(options.checkpoint)
    rate = loaded.audio.sample_rate
    data = dataclasses.replace(options.data, sample_rate=rate)
    if data.root is None and data.processed_dir is None:
        data = _data_of_run(Path(options.checkpoint).resolve().parent)
    folder = ensure_prepared(data)
    clips = held_out(read_manifest(folder))
    if not clips:
        raise DataError(f"{printable(folder)} holds nothing out: prepare it with test_fraction")
    if clips[0].sample_rate != rate:
        raise DataError(f"the clips are at {clips[0].sample_rate} Hz, the model at {rate} Hz")
    return Subject(loaded, folder, clips, options.evaluation, options.seed)


def write_part(options: EvaluateCommand, subject: Subject, shard: Shard) -> Path:
    """Measure a shard and write what it comes to, unless that is there; return its file."""
    path = share_path(Path(options.output or OUTPUT), shard)
    whole = about(subject, Path(options.checkpoint))
    if path.exists() and not options.overwrite:
        read_share(path, whole)
        log.info("%s is there already, and left: overwrite=true measures anew", printable(path))
        return path
    path.unlink(missing_ok=True)  # where it is, all of the shard is there, and is one
    clips = shard.of(subject.measured)
    total = samples_measured(subject.loaded.model.config, clips)
    with progress(total, unit="sample", description="evaluating") as advance:
        part = listening.measure(subject, shard, advance)
    write_share(path, part, shard, whole)
    return path


def evaluation_of(options: EvaluateCommand, subject: Subject) -> listening.Evaluation:
    """Return the evaluation: measured now, or added up from shards that were."""
    if options.shards is not None:
        output = Path(options.output or OUTPUT)
        whole = about(subject, Path(options.checkpoint))
        return listening.together(subject, gathered(subject, output, options.shards, whole))
    total = samples_measured(subject.loaded.model.config, subject.measured)
    with progress(total, unit="sample", description="evaluating") as advance:
        return listening.evaluate(subject, advance)


def plain(subject: Subject, found: listening.Evaluation) -> dict[str, Any]:
    """Return an evaluation as plain data for JSON."""
    clips = subject.measured
    means = listening.means_of(found.copied)
    return {
        "clips": len(clips),
        "samples": sum(clip.frames for clip in clips),
        "sample_rate": subject.loaded.audio.sample_rate,
        "bits_per_sample": found.bits,
        "mean_distances": {kind: dataclasses.asdict(scores) for kind, scores in means.items()},
        "copies": [
            {
                "number": one.number,
                "source": one.clip.source,
                "distances": {kind: dataclasses.asdict(s) for kind, s in one.scores.items()},
                "onsets": one.onsets,
            }
            for one in found.copied
        ],
        "real_time_factor": found.real_time_factor,
        "facts": found.facts,
    }


def with_temperature_of_run(options: EvaluateCommand, said: Sequence[str]) -> EvaluateCommand:
    """Return the options with the temperature of the checkpoint's run, unless another is said."""
    path = Path(options.checkpoint).resolve().parent / "run.json"
    if "evaluation.temperature" in said or not path.is_file():
        return options
    run = json.loads(path.read_text(encoding="utf-8"))
    report = from_dict(EvaluationOptions, run["evaluation"], str(path))
    report = dataclasses.replace(options.evaluation, temperature=report.temperature)
    return dataclasses.replace(options, evaluation=report)


def page_of(options: EvaluateCommand) -> Path | None:
    """Return where the listening page goes; `None` where there is nothing to hear, or not yet."""
    page = Path(options.output or OUTPUT)
    if page.suffix.lower() != ".html":
        raise ConfigError(f"output must be a .html file, got {printable(page)}")
    nothing = options.output is None or not options.evaluation.sample_seconds
    return None if nothing or options.part is not None else page


def _data_of_run(run: Path) -> DataOptions:
    path = run / "run.json"
    if not path.is_file():
        raise ConfigError(
            "which audio? The checkpoint lies in no run: say data.root=FOLDER, or data.processed_dir"
        )
    data = from_dict(DataOptions, json.loads(path.read_text(encoding="utf-8"))["data"], str(path))
    return dataclasses.replace(data, root=None)  # its clips are prepared
