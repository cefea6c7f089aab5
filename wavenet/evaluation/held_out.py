"""What an evaluation takes from the run that a model directory lies in.

runs/demo/run.json    the prepared folder
runs/demo/model/      the model directory
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from wavenet.checkpoint import Checkpoint
from wavenet.data.manifest import MANIFEST, Clip, Manifest, frames_of, read_manifest
from wavenet.data.options import DataOptions
from wavenet.data.preparation.prepare import ensure_prepared, ensure_same_data
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError, DataError, printable

log = logging.getLogger("wavenet")
T = TypeVar("T")


def held_out_clips(
    model_dir: Path, loaded: Checkpoint, data: DataOptions | None = None
) -> tuple[Path, Manifest]:
    """Return a prepared folder and the clips of it that training has not used.

    Without `data`, these are exactly the clips that the model's run held out. Other data are
    split as their own options say, and a warning says so.

    Args:
        model_dir: The model directory.
        loaded: The model.
        data: Recordings to evaluate on; those of the model's run if it names none.

    Raises:
        ConfigError: No recordings are given, and the model directory is not part of a run.
        DataError: No clip is held out, the model was trained on some of them, the run's data are
            not those that the model was trained on, or sample rates or speakers do not match.
    """
    rate, dataset = loaded.audio.sample_rate, loaded.training.dataset
    if data is None or (data.root is None and data.processed_dir is None):
        own = _of_run(model_dir, DataOptions, "data")
        if own is None:
            raise ConfigError(
                f"no recordings to evaluate on: {printable(model_dir)} is not part of a run, so "
                "add data.root=FOLDER or data.processed_dir=FOLDER"
            )
        folder = ensure_same_data(own, dataset, model_dir, loaded.audio)
        foreign = False
    else:
        folder = ensure_prepared(dataclasses.replace(data, sample_rate=rate), loaded.audio)
        foreign = read_manifest(folder).identity != dataset
    manifest = read_manifest(folder)
    clips = held_out_split(manifest)
    if not clips:
        raise DataError(
            f"{printable(folder)} has no held-out clips: prepare it with data.test_fraction"
        )
    if clips[0].sample_rate != rate:
        raise DataError(f"the clips are at {clips[0].sample_rate} Hz, the model at {rate} Hz")
    if foreign and data is not None:
        _check_foreign(model_dir, loaded, data, folder, clips)
    return folder, clips


def _check_foreign(
    model_dir: Path, loaded: Checkpoint, data: DataOptions, folder: Path, clips: Manifest
) -> None:
    """Refuse clips that cannot be evaluated fairly, and warn that they are not the run's."""
    used = _clips_in_training(model_dir, data, clips)
    if used:
        raise DataError(
            f"the model was trained or validated on {used} of the {len(clips)} held-out clips of "
            f"{printable(folder)}: leave data.* out to evaluate on what its run held out"
        )
    speakers = loaded.audio.speaker_names
    if speakers and not clips.names:
        raise DataError(
            f"the model was trained with the speakers {printable(', '.join(speakers))}, and "
            f"{printable(folder)} names none: prepare it with data.speaker_from_folder=true, or "
            "from a corpus that names them"
        )
    unknown = sorted({*clips.names} - {*speakers}) if speakers else []
    if unknown:
        log.warning(
            "warning: the model does not know these speakers, evaluated with the null speaker: %s",
            printable(", ".join(unknown)),
        )
    dataset = loaded.training.dataset
    if dataset is not None:
        log.warning(
            "warning: foreign data: the model was trained with the clips %s; these are %s, split "
            "by their own options",
            *(dataset, read_manifest(folder).identity),
        )


def _clips_in_training(model_dir: Path, data: DataOptions, clips: Manifest) -> int:
    """Return how many of `clips` the model's run has trained or validated on, if that is known."""
    own = _of_run(model_dir, DataOptions, "data")
    if own is None or own.processed_dir is None or not (own.folder / MANIFEST).is_file():
        return 0
    manifest = read_manifest(own.folder)
    held_out = held_out_split(manifest)
    free = {digest.tobytes() for digest in held_out.digests}
    used = {digest.tobytes() for digest in manifest.digests} - free
    places = {row for row, digest in enumerate(clips.digests) if digest.tobytes() in used}
    roots = [options.root and Path(options.root).resolve() for options in (own, data)]
    if roots[0] and roots[0] == roots[1]:
        names = {clip.source for clip in manifest} - {clip.source for clip in held_out}
        places |= {row for row, clip in enumerate(clips) if clip.source in names}
    return len(places)


def held_out_split(clips: Manifest) -> Manifest:
    """Return the test split, or the validation split if there is no test split."""
    return clips.of_split("test") or clips.of_split("valid")


def split_name(clips: Sequence[Clip]) -> str:
    """Return what the clips of `held_out_split` are called: `test` or `validation`."""
    return "test" if clips[0].split == "test" else "validation"


def first_seconds(clips: Sequence[Clip], seconds: float | None) -> Sequence[Clip]:
    """Return as many of the first clips as it takes for `seconds` of audio; `None` for all."""
    if seconds is None or not clips:
        return clips
    frames = frames_of(clips)
    starts = np.cumsum(frames) - frames
    return clips[: int(np.searchsorted(starts, seconds * clips[0].sample_rate))]


def _of_run(model_dir: Path, cls: type[T], key: str) -> T | None:
    """Return the options `key` of the run that a model directory is part of, if it is."""
    path = model_dir.resolve().parent / "run.json"
    if not path.is_file():
        return None
    run = json.loads(path.read_text(encoding="utf-8"))
    return from_dict(cls, run[key], f"run.json: {key}")
