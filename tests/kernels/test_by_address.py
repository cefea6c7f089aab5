"""Compiled functions that compiled code calls by their address."""

import ast
import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types

import wavenet
from tests.commands import ROOT
from wavenet.kernels.by_address import FunctionByAddress, call_of
from wavenet.kernels.compiler import Address, compiled
from wavenet.kernels.references import Reference, in_memory
from wavenet.kernels.sources import SAMPLER_SOURCES, SOURCES, sources_digest
from wavenet.sampling.cpu.cpu_sampler import CpuSampler


class Numbers(NamedTuple):
    values: Any
    factor: int


def _weighted_sum(x: int, y: int) -> int:
    return 3 * x + y


def _multiply(numbers: Numbers, first: int) -> None:
    for index in range(first, len(numbers.values)):
        numbers.values[index] *= numbers.factor


SUM = types.int64(types.int64, types.int64)
weighted_sum = FunctionByAddress(_weighted_sum, SUM, "test-weighted-sum", SOURCES)


def test_a_call_by_address_has_the_result_of_the_function() -> None:
    call = call_of(SUM)

    def caller(address: Address, x: int, y: int) -> int:
        return call(address, x, y) - 1  # type: ignore[no-any-return]

    kernel = compiled(caller)
    for x, y in ((2, -7), (2**40, 5)):
        assert (
            kernel(weighted_sum.address, x, y) == _weighted_sum(x, y) - 1 == weighted_sum(x, y) - 1
        )


def test_a_named_tuple_is_passed_by_reference() -> None:
    numbers = Numbers(np.arange(4.0), 3)
    signature = types.void(Reference(typeof(numbers)), types.int64)
    multiply = FunctionByAddress(_multiply, signature, "test-multiply", SOURCES)
    call = call_of(signature)

    def caller(address: Address, given: Numbers) -> None:
        call(address, in_memory(given), 2)

    compiled(caller)(multiply.address, numbers)

    np.testing.assert_array_equal(numbers.values, [0, 1, 6, 9])


def test_a_sampler_has_only_the_functions_that_its_model_needs() -> None:
    categorical = wavenet.WaveNet(wavenet.WaveNetConfig(dilations=(1, 2)))
    past = wavenet.WaveNet(
        wavenet.WaveNetConfig(
            dilations=(1, 2),
            output_distribution="gaussian_mixture",
            num_mixtures=1,
            quantization_channels=65536,
            input_type="mu-law",
            predictor=wavenet.PredictorConfig(source="past", order=4),
        )
    )

    functions = {
        name: CpuSampler(model, num_threads).functions
        for name, model, num_threads in (
            ("plain", categorical, 1),
            ("past", past, 1),
            ("two threads", categorical, 2),
        )
    }

    needed = {name: (f.solve_past != 0, f.next_sample != 0) for name, f in functions.items()}
    assert needed == {"plain": (False, False), "past": (True, False), "two threads": (False, True)}
    assert functions["plain"].draw != functions["past"].draw
    assert functions["plain"].product == functions["past"].product


def test_the_cache_of_the_sampler_knows_the_files_of_compiled_constants() -> None:
    constants = {
        (node.module, name.name)
        for path in (ROOT / "wavenet" / "kernels" / "sampler").glob("*.py")
        if "@inlined" in (content := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(content))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wavenet.")
        for name in node.names
        if name.name.isupper()
    }
    files = {
        (module, name): Path(str(importlib.import_module(str(module)).__file__))
        for module, name in constants
    }

    missing = [
        constant
        for constant, file in files.items()
        if not {file, file.parent}.intersection(SAMPLER_SOURCES)
    ]

    assert ("wavenet.utils.shared_constants", "LEVELS") in files
    assert missing == []


def test_the_digest_of_sources_is_that_of_files_and_folders(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file.py"
    folder.mkdir()
    digests: set[str] = set()
    for path in (file, folder / "inside.py", file):
        path.write_text(f"NUMBER = {len(digests)}", encoding="utf-8")
        sources_digest.cache_clear()
        digests.add(sources_digest((folder, file)))

    assert len(digests) == 3
