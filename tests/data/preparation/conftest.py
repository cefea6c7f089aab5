"""Recordings to prepare: good ones, and one of each fault; and their preparation."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.data.preparation.summary import PreparationSummary

Record = Callable[..., Path]
Samples = NDArray[np.float32]


def run(folder: Path, output: str = "out", **options: Any) -> PreparationSummary:
    """Prepare `folder/root` as `folder/output`."""
    settings = PrepareOptions(sample_rate=16000, num_workers=2, **options)
    return prepare_clips(make_plan(folder / "root", folder / output, settings))


def content(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def corpus(record: Record, noise: Samples, tmp_path: Path) -> Path:
    """Return a folder whose `root` holds six good recordings of two speakers."""
    for number in range(6):
        record(f"p{number % 2}/{number}.flac", noise * np.float32(1 - number / 10))
    return tmp_path


@pytest.fixture
def nasty(corpus: Path, record: Record, noise: Samples) -> Path:
    """Return the same folder with one recording of each fault."""
    silence = np.zeros(8000, np.float32)
    record("silent.wav", silence)
    record("stereo.wav", np.stack([noise, noise], axis=1))
    record("44100.wav", noise, 44100)
    record("short.wav", noise[:160])
    record("loud.wav", noise * 2, subtype="FLOAT")
    record("nan.wav", np.where(np.arange(8000) == 77, np.nan, noise), subtype="FLOAT")
    for name in ("cut.wav", "cut.flac"):
        path = record(name, np.tile(noise, 5))
        path.write_bytes(path.read_bytes()[:-9000])
    (corpus / "root" / "empty.wav").touch()
    (corpus / "root" / "text.ogg").write_text("no audio")
    os.mkfifo(corpus / "root" / "pipe.wav")
    return corpus
