"""The fused gate on a CUDA device, compared with the formula in float64, and in training."""

import pytest
import torch
from torch import Tensor

from tests.kernels.cuda.test_gated_activation import ROUNDING, SHAPES, both_ways, expected_of, on
from tests.kernels.cuda.test_gated_activation import rows_of as rows_on_cpu
from wavenet.kernels.cuda.driver import CudaKernels
from wavenet.kernels.cuda.gated_activation import PROGRAM, CudaGatedActivation, gate_kernels
from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.modules import GatedActivation, ResidualStack

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = torch.device("cuda", 0)


def rows_of(shape: tuple[int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    y, bias, grad_z = rows_on_cpu(shape, dtype)
    return y.to(DEVICE), bias.to(DEVICE), grad_z.to(DEVICE)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", [*SHAPES, (100_003, 64), (3000, 512)], ids=str)
def test_both_ways_equal_the_formula_in_float64_but_for_one_rounding(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    y, bias, grad_z = rows_of(shape, dtype)
    kernels = CudaKernels(PROGRAM, DEVICE)
    for added in (bias, None):
        found = [one.cpu() for one in both_ways(on(kernels), y, added, grad_z)]

        added = None if added is None else added.cpu()
        *expected, sums, around = expected_of(y.cpu(), added, grad_z.cpu())
        for one, other in zip(found, expected, strict=False):
            torch.testing.assert_close(one.double(), other, rtol=1.01 * ROUNDING[dtype], atol=5e-7)
        torch.testing.assert_close(found[4].double(), sums, rtol=1e-5, atol=1e-6 * shape[0])
        assert torch.equal(found[5].double(), around)


def test_a_graph_captures_both_ways_and_other_streams_run_them() -> None:
    y, bias, grad_z = rows_of((300, 64), torch.bfloat16)
    gates, z = fast_gated_activation(300, 64, y), y.new_empty(300, 64)
    assert type(gates) is CudaGatedActivation
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        gates.forward(y, bias, z)
        gates.backward(y, bias, grad_z)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gates.forward(y, bias, z)
        grad_y, _, _, sums = gates.backward(y, bias, grad_z)
    y.copy_(torch.randn_like(y))
    z.zero_()

    graph.replay()

    expected_z = fast_gated_activation(300, 64, y).forward(y, bias, torch.empty_like(z))
    expected = fast_gated_activation(300, 64, y).backward(y, bias, grad_z)
    assert torch.equal(z, expected_z)
    assert torch.equal(grad_y, expected[0])
    assert torch.equal(sums, expected[3])


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize(
    ("dtype", "near"), [(None, 1e-4), (torch.bfloat16, 0.03), (torch.float16, 0.01)], ids=str
)
def test_a_stack_trains_as_with_plain_gates(
    dtype: torch.dtype | None, near: float, recompute: bool
) -> None:
    stack = ResidualStack((1, 2, 4), 32, 64, 32).to(DEVICE)
    stack.checkpoint_activations = recompute
    x = torch.randn(2, 32, 1000, device=DEVICE, requires_grad=True)
    weights, found = torch.randn(2, 32, 1000, device=DEVICE), []
    for make, precision in ((GatedActivation, None), (fast_gated_activation, dtype)):
        stack.gated_activation = make
        with torch.autocast("cuda", precision, enabled=precision is not None):
            loss = (stack(x) * weights).sum()
        found.append(torch.autograd.grad(loss, [x, *stack.parameters()]))

    assert gate_kernels(DEVICE) is not None
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm()) <= near * float(one.norm())
