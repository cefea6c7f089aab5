"""A thousand changed files in the suite; `tests.faults.fuzz` tries more, with a limit of memory."""

import resource
from collections import Counter
from pathlib import Path

import pytest

from tests.interop.fuzz import SMALL_TORCH_FILES, Fuzzer
from tests.interop.fuzz_importers import ImporterFuzzer


@pytest.mark.slow
def test_a_thousand_changed_files_are_read_or_refused(tmp_path: Path) -> None:
    fuzzer = Fuzzer(tmp_path, SMALL_TORCH_FILES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    outcomes = Counter(fuzzer.try_one(seed) for seed in range(1000))

    assert outcomes["refused"] > 700
    assert outcomes["read"] > 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.slow
def test_changed_models_and_configs_are_imported_or_refused(tmp_path: Path) -> None:
    fuzzer = ImporterFuzzer(tmp_path)

    outcomes = Counter(fuzzer.try_one(seed) for seed in range(300))

    assert outcomes["refused"] > 200
    assert outcomes["read"] > 10
