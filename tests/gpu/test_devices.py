"""Which device a command computes on."""

from typing import Any

import pytest
import torch

from wavenet.generation.backend import choose_device
from wavenet.generation.options import MIN_GPU_STREAMS, GenerateCommand
from wavenet.utils.device import find_device
from wavenet.utils.errors import ConfigError

MANY: dict[str, Any] = {"num_samples": MIN_GPU_STREAMS}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ({}, "cpu"),
        ({"device": "cuda"}, "cuda"),
        ({"device": "cuda", "backend": "reference"}, "cuda"),
        ({"device": "cpu", "backend": "graph"}, "cpu"),
        ({"backend": "graph"}, "cuda"),
        ({"backend": "cuda"}, "cuda"),
        ({"backend": "cuda", "device": "cuda", "weight_dtype": "bfloat16"}, "cuda"),
        ({"backend": "reference", **MANY}, "cpu"),
        (MANY, "cuda"),
        ({**MANY, "weight_dtype": "bfloat16"}, "cpu"),
        ({**MANY, "num_threads": 1}, "cpu"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_generation_takes_a_gpu_where_it_pays_or_is_asked_for(
    options: dict[str, Any], device: str
) -> None:
    assert choose_device(GenerateCommand(checkpoint="a", **options)).type == device


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_gpu_is_an_error_only_if_it_is_asked_for() -> None:
    assert choose_device(GenerateCommand(checkpoint="a", **MANY)).type == "cpu"
    assert find_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="device=cuda: PyTorch .* finds none here; set device"):
        find_device("cuda")


@pytest.mark.parametrize("options", [{"backend": "cpu"}, {"weight_dtype": "int8"}])
@pytest.mark.usefixtures("gpu")
def test_the_cpu_sampler_on_a_gpu_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="use backend=graph with weight_dtype=float32"):
        choose_device(GenerateCommand(checkpoint="a", device="cuda", **options))
    with pytest.raises(ConfigError, match="device=cpu with backend=cuda: remove device=cpu"):
        choose_device(GenerateCommand(checkpoint="a", device="cpu", backend="cuda"))
