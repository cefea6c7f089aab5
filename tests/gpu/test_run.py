"""The program of `make gpu`, at tiny sizes on a CPU and the stand-in for a GPU."""

import json
from pathlib import Path

import pytest
import torch

from tests.gpu import run
from tests.gpu.stand_in.device import needs_compiler


@needs_compiler
def test_the_run_for_a_gpu_prints_and_writes_every_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "gpu.json"

    assert run.main(["--tiny", f"--output={output}"]) == 0

    found, text = json.loads(output.read_text()), capsys.readouterr().out
    assert [*found] == ["machine", "suite", "parity", "sampling", "gates", "training", "losses"]
    assert found["suite"]["tests"] == 0  # they are collected only
    kinds = [(one["backend"], one["weight_dtype"]) for one in found["parity"]]
    assert kinds == list(run.BACKENDS)
    limits = {"float32": 1e-4, "bfloat16": 0.04}
    assert all(one["max_difference"] < limits[one["weight_dtype"]] for one in found["parity"])
    assert all(one["equal_samples"] == 1 for one in found["parity"][:2])
    assert len(found["sampling"]) == 2 * len(run.BACKENDS)
    assert all(one["rate"] > 0 for one in found["sampling"])
    assert [one["way"] for one in found["gates"]] == ["forward", "backward"] * 2
    assert all(one["fused_us"] > 0 for one in found["gates"])
    assert found["training"]["fused"] > 0
    assert found["training"]["of_plain_gates"] > 0
    assert all(one["largest_relative_difference"] == 0 for one in found["losses"][:1])
    assert "backend=cuda" in text
    assert "goal=" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_run_without_a_gpu_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([]) == 5
    assert "PyTorch finds none" in capsys.readouterr().out


def test_every_goal_is_of_a_row_that_is_measured() -> None:
    assert {(backend, dtype) for _, backend, dtype in run.GOALS} == {*run.BACKENDS}
    assert {size for size, *_ in run.GOALS} == {*run.SIZES}
    assert all(len(goals) == len(run.STREAMS) for goals in run.GOALS.values())
