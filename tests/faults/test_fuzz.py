"""Damaged and hostile files of every kind that is read; `fuzz.py` tries 200,000 of each."""

from collections import Counter
from pathlib import Path

import pytest

from tests.architectures import num_examples
from tests.faults.fuzz_readers import READERS

pytestmark = pytest.mark.slow
COUNTS = {  # twice as many with --full; tests/interop has the checkpoints of others
    "audio": num_examples(1000, 2000),
    "manifest": num_examples(500, 1000),
    "run": num_examples(1000, 2000),
    "frames": num_examples(1000, 2000),
    "mel": num_examples(500, 1000),
    "score": num_examples(1000, 2000),
    "model": num_examples(150, 300),
    "training": num_examples(250, 500),
    "state": num_examples(1000, 2000),
}


@pytest.mark.parametrize("reader", COUNTS)
def test_damaged_files_are_read_or_refused_and_never_believed(reader: str, tmp_path: Path) -> None:
    fuzzer = READERS[reader](tmp_path)

    outcomes = Counter(fuzzer.try_one(seed) for seed in range(COUNTS[reader]))

    assert outcomes["refused"] > COUNTS[reader] / 5
    assert outcomes["read"] > 0
