"""Corpora in small: the folders and names of the real ones, a few samples a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Plant = Callable[..., Path]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Return a function that makes files below `tmp_path/root`: audio, or what a text says."""
    root = tmp_path / "root"

    def write(*recordings: str, texts: dict[str, str] | None = None) -> Path:
        for name in recordings:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / name, np.arange(8, dtype=np.int16), 8000)
        for name, text in (texts or {}).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return root

    return write
