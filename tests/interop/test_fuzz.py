"""2,000 changed files in the suite; `tests.faults.fuzz` tries more, with a limit of memory."""

import resource
from collections import Counter
from pathlib import Path

import pytest

from tests.interop.fuzz import SMALL_TORCH_FILES, Fuzzer
from tests.interop.fuzz_importers import ImporterFuzzer


@pytest.mark.slow
def test_changed_files_are_read_or_refused(tmp_path: Path) -> None:
    fuzzer = Fuzzer(tmp_path, SMALL_TORCH_FILES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    outcomes = Counter(fuzzer.try_one(seed) for seed in range(2000))

    assert outcomes["refused"] > 1400
    assert outcomes["read"] > 40
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.slow
def test_changed_models_and_configs_are_imported_or_refused(tmp_path: Path) -> None:
    fuzzer = ImporterFuzzer(tmp_path)

    outcomes = Counter(fuzzer.try_one(seed) for seed in range(2000))

    assert outcomes["refused"] > 1300
    assert outcomes["read"] > 70
