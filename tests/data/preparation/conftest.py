"""Recordings to prepare: good ones, and one of each fault."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Record = Callable[..., Path]
Samples = NDArray[np.float32]


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
