"""Tiny recordings, real files all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

Record = Callable[..., Path]


@pytest.fixture
def noise() -> NDArray[np.float32]:
    """Return half a second of noise at 16 kHz, every sample a multiple of 1/128."""
    codes = np.random.default_rng(0).integers(-100, 100, 8000)
    return (codes / 128).astype(np.float32)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Return a function that writes samples below `tmp_path/root`."""

    def write(name: str, samples: NDArray[Any], sample_rate: int = 16000, **form: str) -> Path:
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:  # any name, any form
            form.setdefault("format", path.suffix[1:].upper())
            soundfile.write(file, samples, sample_rate, **form)
        return path

    return write
