"""A CUDA driver that only records what it is asked for, and what torch says beside it."""

import contextlib
import ctypes
import types
from typing import Any

import pytest
import torch

from wavenet.kernels.cuda import driver


class Driver:
    """Gives out handles.

    Args:
        task_bytes: Size of the argument of a launch, to be kept.
        failures: What a call returns in place of 0, by its name.

    Attributes:
        calls: Names of the calls with their arguments.
        tasks: The argument of each launch.
    """

    def __init__(self, task_bytes: int = 0, **failures: int) -> None:
        self.task_bytes = task_bytes
        self.calls: list[tuple[Any, ...]] = []
        self.tasks: list[bytes] = []
        self.failures = failures

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append((name, *arguments))
            if name in ("cuDevicePrimaryCtxRetain", "cuModuleLoadData", "cuModuleGetFunction"):
                arguments[0]._obj.value = len(self.calls)
            if name == "cuGetErrorString":
                arguments[1]._obj.value = b"as it happens"
            if name == "cuLaunchKernel":
                self.tasks.append(ctypes.string_at(arguments[-2][0], self.task_bytes))
            return self.failures.get(name, 0)

        return call

    def called(self, name: str) -> tuple[Any, ...]:
        (arguments,) = [call[1:] for call in self.calls if call[0] == name]
        return arguments


def record_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torch say what it says on a machine with a GPU."""
    properties = types.SimpleNamespace(major=9, minor=0, shared_memory_per_block_optin=232448)
    stream = types.SimpleNamespace(cuda_stream=77)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(driver, "compiled_program", lambda one, gpu: f"{one.name} {gpu}".encode())
