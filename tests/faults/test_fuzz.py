"""Damaged and hostile files of every kind that is read; `fuzz.py` tries 200,000 of each."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.fuzz_readers import READERS

pytestmark = pytest.mark.slow
COUNTS = {  # as many as take about two seconds; tests/interop has the checkpoints of others
    "audio": 2000,
    "manifest": 1000,
    "run": 2000,
    "frames": 2000,
    "mel": 1000,
    "score": 2000,
    "model": 300,
    "training": 500,
    "state": 2000,
}


@pytest.mark.parametrize("reader", COUNTS)
def test_damaged_files_are_read_or_refused_and_never_believed(reader: str, tmp_path: Path) -> None:
    fuzzer = READERS[reader](tmp_path)

    outcomes = Counter(fuzzer.try_one(seed) for seed in range(COUNTS[reader]))

    assert outcomes["refused"] > COUNTS[reader] / 5
    assert outcomes["read"] > 0
