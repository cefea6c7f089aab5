"""Imports, model directories written and read hold the weights once, by counting allocations."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from tests.interop.memory import HPARAMS, write
from wavenet import checkpoint
from wavenet.interop import load

Result = TypeVar("Result")
MEGABYTES = 24


def peaks(work: Callable[[], Result]) -> tuple[Result, int, int]:
    """Return a result, and the most bytes of new tensors and of Python's objects on the way."""
    tracemalloc.start()
    try:
        with torch.autograd.profiler.profile(profile_memory=True) as profile:
            result = work()
        python = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    results = profile.kineto_results
    assert results is not None
    held = most = 0
    for event in sorted(results.events(), key=lambda event: event.start_ns()):
        held += event.nbytes() if event.name() == "[memory]" else 0
        most = max(most, held)
    return result, most, python


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_weights_are_held_once_from_import_to_load(tmp_path: Path, legacy: bool) -> None:
    path, folder = tmp_path / "checkpoint.pth", tmp_path / "model"
    write(path, MEGABYTES, legacy=legacy, optimizer=False)
    size = path.stat().st_size

    imported, tensors, python = peaks(lambda: load(path, config=HPARAMS))
    assert size < tensors < 1.3 * size
    assert tensors + python < 2 * size

    _, tensors, python = peaks(lambda: checkpoint.save(imported.model, folder, imported.audio))
    assert tensors + python < 0.2 * size

    _, tensors, python = peaks(lambda: checkpoint.load(folder))
    assert 0.9 * size < tensors < 1.1 * size
    assert python < 0.2 * size
