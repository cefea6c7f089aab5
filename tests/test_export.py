"""Stacks and models leave PyTorch: compiled, exported, as ONNX and as traces, for any length."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.portable import CASES, HOP, build, gradients, inputs_of
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet, WaveNetState
from wavenet.modules import ResidualStack

FULL = "WAVENET_FULL" in os.environ
every_case = pytest.mark.parametrize("name", CASES)
some_cases = pytest.mark.parametrize(
    "name", ["standard_stack", "non_causal_stack", "mixture_model"]
)
two_cases = pytest.mark.parametrize("name", ["non_causal_stack", "mixture_model"])
FRAMES = (1, 9)  # lengths other than the exported one: shorter than the field, and longer


def dynamic_shapes(inputs: dict[str, Tensor]) -> dict[str, Any]:
    """The time axis of each input is dynamic; a frame covers `HOP` samples."""
    frames = Dim("frames", min=1, max=10_000)
    samples = HOP * frames
    axes = {"waveform": {1: samples}, "local": {2: frames}}
    return {
        name: axes.get(name, {2: samples} if x.dim() == 3 and x.shape[2] > 1 else None)
        for name, x in inputs.items()
    }


class Positional(nn.Module):
    """A module called with positional inputs, since torch.jit.trace knows no keyword-only ones."""

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *tensors: Tensor) -> Tensor:
        y: Tensor = self.module(**dict(zip(self.names, tensors, strict=True)))
        return y


@pytest.mark.slow
@some_cases
def test_compile_makes_one_graph_with_the_same_gradients(name: str) -> None:
    module, inputs = build(name)
    expected_y, expected = module(**inputs), gradients(module, inputs)
    torch.compiler.reset()

    module.compile(fullgraph=True, backend="aot_eager")

    torch.testing.assert_close(module(**inputs), expected_y)
    torch.testing.assert_close(gradients(module, inputs), expected)


@pytest.mark.slow
def test_inductor_computes_the_stack() -> None:
    _, inputs = build("standard_stack")
    stack = ResidualStack((1, 2), 4, 6, 5, 3, conditioning_channels=3).eval()
    expected_y = stack(**inputs)
    torch.compiler.reset()

    options = {"compile_threads": 1}  # others would import torch first
    stack.compile(fullgraph=True, options=options)

    with torch.no_grad():
        torch.testing.assert_close(stack(**inputs), expected_y)


def test_a_stack_kept_from_compile_stays_fused() -> None:
    stack, inputs = build("standard_stack")
    assert isinstance(stack, ResidualStack)
    stack.forward = torch.compiler.disable(stack.forward)  # type: ignore[method-assign]
    compiled = torch.compile(lambda **given: 2 * stack(**given), backend="eager")

    with torch.no_grad(), torch.autograd.profiler.profile() as profile:
        y = compiled(**inputs)

    assert any(event.name == "FusedStackFunction" for event in profile.function_events or ())
    torch.testing.assert_close(y, 2 * stack(**inputs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "with_gradients"),
    [
        *((name, False) for name in CASES),
        # With gradients the fused stack is another function; in models it is the same
        *((name, True) for name in CASES if FULL or not name.endswith("_model")),
    ],
)
def test_an_exported_program_runs_at_any_length(name: str, with_gradients: bool) -> None:
    module, inputs = build(name)

    with torch.set_grad_enabled(with_gradients):
        program = torch.export.export(
            module, (), inputs, dynamic_shapes=dynamic_shapes(inputs), strict=False
        )

        for frames in FRAMES:
            other = inputs_of(name, frames)
            torch.testing.assert_close(program.module()(**other), module(**other))


class Step(nn.Module):
    """One step of a model as a function of its queues."""

    def __init__(self, model: WaveNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor, queues: list[Tensor]) -> Tensor:
        return self.model.step(sample, WaveNetState([*queues], position=3))


def test_an_exported_step_runs_for_any_batch_size() -> None:
    model = WaveNet(WaveNetConfig(dilations=(1, 2), residual_channels=4, skip_channels=4)).eval()
    inputs = torch.zeros(2), model.new_state(2).queues
    axes = {0: Dim("batch", min=1, max=100)}

    program = torch.export.export(
        Step(model), inputs, dynamic_shapes=(axes, [axes] * len(inputs[1])), strict=False
    )

    sample = torch.rand(5) - 0.5
    found = program.module()(sample, model.new_state(5).queues)
    torch.testing.assert_close(found, model.step(sample, model.new_state(5), None))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:# The axis name")
@(some_cases if FULL else two_cases)
def test_onnx_runs_at_any_length(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module, inputs = build(name)
    path = tmp_path / "module.onnx"

    torch.onnx.export(
        module, (), path, kwargs=inputs, dynamic_shapes=dynamic_shapes(inputs), verbose=False
    )

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for frames in FRAMES:
        other = inputs_of(name, frames)
        (found,) = session.run(None, {key: x.numpy() for key, x in other.items()})
        expected = module(**other).detach()
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
@every_case
def test_a_trace_runs_at_any_length(name: str) -> None:
    module, inputs = build(name)
    positional = Positional(module, list(inputs))

    traced = torch.jit.trace(positional, tuple(inputs.values()))

    for frames in FRAMES:
        other = inputs_of(name, frames)
        torch.testing.assert_close(traced(*other.values()), module(**other))
