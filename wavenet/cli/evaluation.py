"""`wavenet-evaluate`'s choice of audio: the model's own held-out clips unless told otherwise."""

import dataclasses
import json
from pathlib import Path

from wavenet import checkpoint
from wavenet.cli.options import EvaluateCommand
from wavenet.data.excerpts import Excerpts
from wavenet.data.manifest import Clip, read_manifest
from wavenet.data.prepare import prepare
from wavenet.errors import ConfigError, DataError, printable
from wavenet.evaluation.scores import excerpts_of, held_out
from wavenet.plain import from_dict
from wavenet.training.options import DataOptions


def evaluated_clips(options: EvaluateCommand) -> tuple[checkpoint.Checkpoint, Excerpts, list[Clip]]:
    """Return the checkpoint, what reads clips for it, and those that are held out.

    Raises:
        ConfigError: No audio was named, and the checkpoint lies in no run.
        DataError: Nothing is held out, or the clips have another rate than the model.
    """
    loaded = checkpoint.load(options.checkpoint)
    rate = loaded.audio.sample_rate
    data = dataclasses.replace(options.data, sample_rate=rate)
    if data.root is None and data.prepared is None:
        data = _data_of_run(Path(options.checkpoint).resolve().parent)
    if data.root is not None:
        prepare(data.source, data.folder, data.preparation)
    clips = held_out(read_manifest(data.folder), options.seconds)
    if not clips:
        raise DataError(
            f"{printable(data.folder)} holds nothing out: prepare it with test_fraction"
        )
    if clips[0].sample_rate != rate:
        raise DataError(f"the clips are at {clips[0].sample_rate} Hz, the model at {rate} Hz")
    return loaded, excerpts_of(loaded.model.config, loaded.audio, data.folder), clips


def _data_of_run(run: Path) -> DataOptions:
    path = run / "run.json"
    if not path.is_file():
        raise ConfigError(
            "which audio? The checkpoint lies in no run: say data.root=FOLDER, or data.prepared"
        )
    data = from_dict(DataOptions, json.loads(path.read_text(encoding="utf-8"))["data"], str(path))
    return dataclasses.replace(data, root=None)  # its clips are prepared
