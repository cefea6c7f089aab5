"""What an evaluation takes from the run that a model directory lies in.

runs/demo/run.json    the prepared folder, and the temperature of the samples
runs/demo/model/      the model directory
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wavenet.data.manifest import Clip, Manifest, frames_of, read_manifest
from wavenet.data.options import DataOptions
from wavenet.data.preparation.prepare import ensure_prepared
from wavenet.evaluation.options import EvaluationOptions
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError, DataError, printable


def held_out_clips(
    model_dir: Path, sample_rate: int, data: DataOptions | None = None
) -> tuple[Path, Manifest]:
    """Return a prepared folder and the clips of it that training has not used.

    Args:
        model_dir: The model directory.
        sample_rate: Of the model, in Hz.
        data: Recordings to evaluate on; those of the model's run if it names none.

    Raises:
        ConfigError: No recordings are given, and the model directory is not part of a run.
        DataError: No clip is held out, or the sample rates differ.
    """
    if data is None or (data.root is None and data.processed_dir is None):
        data = _data_of_run(model_dir)
    folder = ensure_prepared(dataclasses.replace(data, sample_rate=sample_rate))
    clips = held_out_split(read_manifest(folder))
    if not clips:
        raise DataError(
            f"{printable(folder)} has no held-out clips: prepare it with data.test_fraction"
        )
    if clips[0].sample_rate != sample_rate:
        raise DataError(
            f"the clips are at {clips[0].sample_rate} Hz, the model at {sample_rate} Hz"
        )
    return folder, clips


def held_out_split(clips: Manifest) -> Manifest:
    """Return the test split, or the validation split if there is no test split."""
    return clips.of_split("test") or clips.of_split("valid")


def first_seconds(clips: Sequence[Clip], seconds: float | None) -> Sequence[Clip]:
    """Return as many of the first clips as it takes for `seconds` of audio; `None` for all."""
    if seconds is None or not clips:
        return clips
    frames = frames_of(clips)
    starts = np.cumsum(frames) - frames
    return clips[: int(np.searchsorted(starts, seconds * clips[0].sample_rate))]


def temperature_of_run(model_dir: Path) -> float | None:
    """Return the temperature of the run's own report; `None` outside a run."""
    run = _read_run(model_dir)
    if run is None:
        return None
    return from_dict(EvaluationOptions, run["evaluation"], "run.json: evaluation").temperature


def _data_of_run(model_dir: Path) -> DataOptions:
    run = _read_run(model_dir)
    if run is None:
        raise ConfigError(
            f"no recordings to evaluate on: {printable(model_dir)} is not part of a run, so add "
            "data.root=FOLDER or data.processed_dir=FOLDER"
        )
    data = from_dict(DataOptions, run["data"], "run.json: data")
    return dataclasses.replace(data, root=None)  # its clips are prepared


def _read_run(model_dir: Path) -> dict[str, Any] | None:
    path = model_dir.resolve().parent / "run.json"
    if not path.is_file():
        return None
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run
