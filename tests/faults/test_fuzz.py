"""Damaged and hostile files of every kind that is read; `fuzz.py` tries 200,000 of each."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.fuzz_readers import READERS

pytestmark = pytest.mark.slow
COUNT = 2000
HERE = [name for name in READERS if not name.startswith("import")]  # tests/interop has those


@pytest.mark.parametrize("reader", HERE)
def test_damaged_files_are_read_or_refused_and_never_believed(reader: str, tmp_path: Path) -> None:
    fuzzer = READERS[reader](tmp_path)

    outcomes = Counter(fuzzer.try_one(seed) for seed in range(COUNT))

    assert outcomes["refused"] > COUNT / 5
    assert outcomes["read"] > 0
