"""The fused gate on the stand-in for a GPU, compared with the plain one, which defines it."""

import contextlib
import logging
import os
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.gpu.cubins import ARCHITECTURES, needs_nvrtc, resources
from tests.gpu.recording_driver import Driver, record_gpu
from tests.gpu.stand_in.device import StandIn, needs_compiler
from wavenet.kernels.cuda import gated_activation
from wavenet.kernels.cuda.compiler import Nvrtc
from wavenet.kernels.cuda.driver import CudaKernels
from wavenet.kernels.cuda.gated_activation import (
    PROGRAM,
    CudaGatedActivation,
    Task,
    cuda_gated_activation,
    gate_kernels,
)
from wavenet.kernels.cuda.launch import Launch
from wavenet.modules import GatedActivation, ResidualStack
from wavenet.modules.rows import MakeGatedActivation
from wavenet.utils.errors import MachineError

FULL = "WAVENET_FULL" in os.environ
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # of a number
MAX_REGISTERS = 80  # 65,536 of a multiprocessor: 24 of its 64 warps
RACE = "WARNING: ThreadSanitizer: data race"
SHAPES = [(1, 1), (5, 16), (300, 48), (17, 6), (70, 132), (9, 33)]  # rows and width of the output


def rows_of(
    shape: tuple[int, int], dtype: torch.dtype, start: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, small and large ones too, the bias, and a gradient with a stride."""
    rows, half = shape
    torch.manual_seed(rows)
    y, bias = 3 * torch.randn(rows, 2 * half), torch.randn(2 * half)
    y[0], y[-1] = 1e-3 * y[0] - bias, 100 * y[-1]
    wide = torch.randn(rows, start + 3 * half).to(dtype)
    return y.to(dtype), bias, wide[:, start + half : start + 2 * half]


def both_ways(
    make: MakeGatedActivation, y: Tensor, bias: Tensor | None, grad_z: Tensor, start: int = 0
) -> tuple[Tensor, ...]:
    """What forward and backward return, and the memory around the output."""
    rows, half = grad_z.shape
    gates, around = make(rows, half, y), y.new_zeros(rows, start + 3 * half)
    z = gates.forward(y, bias, around[:, start + half : start + 2 * half]).clone()
    grad_y, across, z_across, sums = gates.backward(y, bias, grad_z)
    around[:, start + half : start + 2 * half] -= z
    return z, grad_y, across.t(), z_across.t(), sums.sum(dim=0), around


def expected_of(y: Tensor, bias: Tensor | None, grad_z: Tensor) -> tuple[Tensor, ...]:
    """The same in float64, the gradients by autograd."""
    y = y.double().requires_grad_()
    added = torch.zeros(y.shape[1]) if bias is None else bias
    added = added.double().requires_grad_()
    tanh, sigmoid = (y + added).chunk(2, dim=1)
    z = tanh.tanh() * sigmoid.sigmoid()
    grad_y, grad_bias = torch.autograd.grad(z, (y, added), grad_z.double())
    z_and_one = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
    around = z.new_zeros(len(z), 3 * z.shape[1])
    return z.detach(), grad_y, grad_y, z_and_one.detach(), grad_bias, around


def on(kernels: Any) -> MakeGatedActivation:
    return partial(CudaGatedActivation, kernels=kernels)


@needs_compiler
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_ways_equal_the_formula_in_float64_but_for_one_rounding(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    y, bias, grad_z = rows_of(shape, dtype)
    for added in (bias, None):
        found = both_ways(on(StandIn(PROGRAM)), y, added, grad_z)

        *expected, sums, around = expected_of(y, added, grad_z)
        near: dict[str, Any] = {
            "rtol": 1.01 * ROUNDING[dtype],
            "atol": 5e-7,
        }  # of a sum with the bias
        for one, other in zip(found, expected, strict=False):
            torch.testing.assert_close(one.double(), other, **near)
        assert found[4].dtype == torch.float32
        torch.testing.assert_close(found[4].double(), sums, rtol=1e-5, atol=1e-6 * shape[0])
        assert torch.equal(found[5].double(), around)


@needs_compiler
@pytest.mark.parametrize("dtype", ROUNDING)
def test_rows_that_are_not_aligned_have_the_same_bits(dtype: torch.dtype) -> None:
    y, bias, grad_z = rows_of((40, 16), dtype, start=3)
    launched: list[str] = []

    class Recorder(StandIn):
        def launch(self, launch: Launch) -> None:
            launched.append(launch.kernel)
            super().launch(launch)

    found = both_ways(on(Recorder(PROGRAM)), y, bias, grad_z, start=3)
    expected = both_ways(on(Recorder(PROGRAM)), y, bias, grad_z.clone())

    assert [name.endswith("_narrow") for name in launched] == [True, True, False, False]
    for one, other in zip(found[:4], expected[:4], strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(found[4], expected[4])  # of other parts


@needs_compiler
@pytest.mark.parametrize("dtype", ROUNDING)
def test_special_numbers_stay_what_they_are(dtype: torch.dtype) -> None:
    y = torch.zeros(16, 32, dtype=dtype)
    y[3, 5], y[4, 20] = torch.nan, torch.nan
    y[5], y[6], y[7] = 1e-6, torch.inf, -torch.inf

    z, grad_y, *_ = both_ways(on(StandIn(PROGRAM)), y, None, torch.ones(16, 16, dtype=dtype))

    assert z[3, 5].isnan()
    assert z[4, 4].isnan()
    assert grad_y[3, 5].isnan()
    assert int(z.isnan().sum()) == 2
    half = y[5, :16].double() / 2
    torch.testing.assert_close(z[5].double(), half, rtol=ROUNDING[dtype], atol=2.0**-25)
    assert torch.equal(z[6], torch.ones_like(z[6]))
    assert torch.equal(z[7].abs(), torch.zeros_like(z[7]))
    assert not grad_y[6:8].any()


@needs_compiler
def test_no_bit_depends_on_the_order_of_threads() -> None:
    y, bias, grad_z = rows_of((300, 48), torch.bfloat16)

    found = [both_ways(on(StandIn(PROGRAM, seed=seed)), y, bias, grad_z) for seed in range(3)]

    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


class Operations(TorchDispatchMode):
    """Counts PyTorch's operations, but for views and new memory."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if not name.startswith(("aten.empty", "aten.new_empty", "aten.t.", "aten.slice")):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


class Recorder:
    """Kernels that do nothing."""

    device, max_shared_bytes = torch.device("cpu"), 48 * 1024

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def launch(self, launch: Launch) -> None:
        self.launches.append(launch)


def test_each_way_is_one_launch_and_no_operation_of_torch() -> None:
    y, bias, grad_z = rows_of((300, 48), torch.float32)
    counts: dict[str, tuple[int, int]] = {}
    recorder = Recorder()
    for name, make in (("plain", GatedActivation), ("fused", on(recorder))):
        gates, z = make(300, 48, y), y.new_empty(300, 48)
        gates.backward(y, bias, grad_z)  # allocates memory
        with Operations() as operations:
            gates.forward(y, bias, z)
            forward = len(operations.names)
            gates.backward(y, bias, grad_z)
        counts[name] = forward, len(operations.names) - forward

    assert counts["fused"] == (0, 0)
    assert counts["plain"] >= (4, 14)
    assert [launch.kernel for launch in recorder.launches[1:]] == [
        "gate_forward_float32",
        "gate_backward_float32",
    ]
    empty = on(recorder)(0, 48, y[:0])
    *_, sums = empty.backward(y[:0], bias, grad_z[:0])
    assert (sums.shape, len(recorder.launches)) == ((0, 96), 3)


def gradients_of(stack: ResidualStack, autocast: bool) -> list[Tensor]:
    torch.manual_seed(1)
    x, weights = torch.randn(2, 16, 50), torch.randn(2, 8, 50)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = (stack(x) * weights).sum()
    return list(torch.autograd.grad(loss, [x, *stack.parameters()]))


@needs_compiler
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize(("autocast", "near"), [(False, 1e-5), (True, 0.02)], ids=str)
@pytest.mark.parametrize("width", [6, 32])
def test_a_stack_trains_the_same(width: int, autocast: bool, near: float, recompute: bool) -> None:
    torch.manual_seed(0)
    stack = ResidualStack((1, 2, 4), 16, width, 8)
    stack.blocks[1].conv.bias = None  # type: ignore[union-attr]
    stack.blocks[2].conv.bias = nn.Parameter(torch.randn(width, 2)[:, 0])  # type: ignore[union-attr]
    stack.checkpoint_activations = recompute
    expected = gradients_of(stack, autocast=False)
    stack.gated_activation = on(StandIn(PROGRAM))

    found = gradients_of(stack, autocast)

    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) <= near * float(other.norm())


def test_second_derivatives_are_those_of_the_formula() -> None:
    stack = ResidualStack((1, 2), 4, 8, 4)
    x = torch.randn(1, 4, 9, requires_grad=True)
    expected = torch.autograd.grad(stack(x).sum(), x, create_graph=True)[0].square().sum()
    stack.gated_activation = on(StandIn(PROGRAM))

    found = torch.autograd.grad(stack(x).sum(), x, create_graph=True)[0].square().sum()

    torch.testing.assert_close(*(torch.autograd.grad(s, x)[0] for s in (found, expected)))


def reports_of(kernels: StandIn) -> str:
    for shape, dtype in (((1, 1), torch.float16), ((70, 132), torch.bfloat16)):
        y, bias, grad_z = rows_of(shape, dtype)
        both_ways(on(kernels), y, bias, grad_z)
    both_ways(on(kernels), *rows_of((37, 12), torch.float32))
    return kernels.reports


@needs_compiler
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_threads_neither_race_nor_leave_their_memory(sanitizer: str) -> None:
    assert reports_of(StandIn(PROGRAM, sanitizer, seed=1)) == ""


@needs_compiler
@pytest.mark.parametrize(
    ("sanitizer", "old", "new"),
    [
        ("address", "if (row < task.rows) a[i].load", "if (row <= task.rows) a[i].load"),
        ("address", "place.column < task.half;", "true;"),
        ("thread", "  sync_block();\n  for", "  for"),
        ("thread", "sums + place.lane * 2 * width", "sums + place.lane / 2 * 2 * width"),
    ],
    ids=["a-row-too-many", "columns-too-many", "no-barrier", "sums-of-another-thread"],
)
def test_a_planted_fault_is_reported(sanitizer: str, old: str, new: str) -> None:
    kernels = StandIn(PROGRAM, sanitizer, {old: new})

    with contextlib.suppress(RuntimeError):  # the program ends with an error
        both_ways(on(kernels), *rows_of((70, 132), torch.bfloat16))

    wanted = RACE if sanitizer == "thread" else "AddressSanitizer: heap-buffer-overflow"
    assert wanted in kernels.reports


# A compilation takes seconds: without --full the oldest architecture and the newest.
@needs_nvrtc
@pytest.mark.parametrize(
    "architecture", ARCHITECTURES if FULL else ARCHITECTURES[:: len(ARCHITECTURES) - 1]
)
def test_the_kernels_compile_within_their_limits(architecture: str) -> None:
    functions = resources(Nvrtc().compile(PROGRAM, architecture))

    print(architecture, functions)
    assert set(functions) == set(PROGRAM.kernels)
    assert max(registers for registers, _ in functions.values()) <= MAX_REGISTERS
    assert sum(stack for _, stack in functions.values()) == 0


def test_a_launch_has_the_arguments_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    record_gpu(monkeypatch)
    library = Driver(8 * len(Task._fields_))
    kernels = CudaKernels(PROGRAM, torch.device("cuda"), library)
    loaded = [call[3] for call in library.calls if call[0] == "cuModuleGetFunction"]
    y, bias, grad_z = rows_of((300, 64), torch.bfloat16)
    gates, z = on(kernels)(300, 64, y), y.new_empty(300, 128)

    gates.forward(y, bias, z[:, 64:])
    gates.backward(y, None, grad_z)

    assert loaded == [name.encode() for name in PROGRAM.kernels]
    launches = [call[2:] for call in library.calls if call[0] == "cuLaunchKernel"]
    sizes = [(one[:6], one[6], one[7].value) for one in launches]
    # 16 threads side by side, 8 rows at a time, 64 rows a block; floats of 128 columns, 8 rows
    assert sizes == [((5, 1, 1, 128, 1, 1), 0, 77), ((5, 1, 1, 128, 1, 1), 4096, 77)]
    forward, backward = (Task.from_buffer_copy(task) for task in library.tasks)
    assert (forward.y, forward.bias, forward.sums) == (y.data_ptr(), bias.data_ptr(), None)
    assert (forward.z, forward.z_stride) == (z.data_ptr() + 128, 128)
    assert (backward.grad_z, backward.grad_z_stride) == (grad_z.data_ptr(), 192)
    assert (backward.bias, backward.z_stride, backward.half) == (None, 72, 64)
    assert (backward.rows, backward.tiles, backward.across) == (300, 1, 16)
    assert not [call for call in library.calls if "Synchronize" in call[0]]


def test_where_it_cannot_run_pytorch_computes_the_gates(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    like, device = torch.zeros(4, 8), torch.device("cuda", 0)
    monkeypatch.setattr(gated_activation, "_loaded", {})

    def fail(*arguments: Any) -> Any:
        raise MachineError("NVRTC is missing")

    monkeypatch.setattr(gated_activation, "CudaKernels", fail)
    with caplog.at_level(logging.INFO, "wavenet"):
        assert gate_kernels(device) is None
        assert gate_kernels(device) is None
        assert type(cuda_gated_activation(4, 4, like)) is GatedActivation
    assert caplog.text.count("PyTorch's gated activation on cuda:0: NVRTC is missing") == 1
    recorder = Recorder()
    monkeypatch.setattr(gated_activation, "_loaded", {like.device: recorder})
    assert type(cuda_gated_activation(4, 4, like)) is CudaGatedActivation
    assert type(cuda_gated_activation(4, 4, like.double())) is GatedActivation


def test_code_is_not_loaded_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    record_gpu(monkeypatch)
    monkeypatch.setattr(gated_activation, "_loaded", {})
    monkeypatch.setattr(gated_activation, "CudaKernels", lambda *_: Recorder())
    capturing = [True, False]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing.pop(0))

    assert gate_kernels(torch.device("cuda", 0)) is None
    assert gate_kernels(torch.device("cuda", 0)) is not None


@needs_compiler
def test_the_arguments_have_the_layout_of_the_kernel() -> None:
    assert StandIn(PROGRAM).library.task_bytes() == 8 * len(Task._fields_)
