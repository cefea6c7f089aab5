"""Tiny recordings, real files all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from numpy.typing import NDArray

Record = Callable[..., Path]


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
