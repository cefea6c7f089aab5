import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from wavenet.kernels.gated_activation import CpuGatedActivation, cpu_gated_activation
from wavenet.kernels.vectors import LANES
from wavenet.modules import GatedActivation, ResidualStack

pytestmark = pytest.mark.skipif(
    cpu_gated_activation() is GatedActivation,
    reason="PyTorch's threads here are not OpenMP's of GNU",
)

Ways = tuple[Tensor, ...]


def both_ways(
    kind: type[GatedActivation], y: Tensor, grad_z: Tensor, bias: Tensor | None = None
) -> Ways:
    """The gates' output and where it was written, and what comes back, of rows with a stride."""
    rows, half = grad_z.shape
    grad_z = torch.cat([grad_z, grad_z], dim=1)[:, half:]
    gates = kind(rows, half, y)
    z = y.new_zeros(rows, 3 * half)[:, half : 2 * half]
    returned = gates.forward(y, bias, z).clone()
    grad_y, across, z_across, grad_bias = gates.backward(y, bias, grad_z)
    return z, returned, grad_y, across.t(), z_across.t(), grad_bias.sum(dim=0) / rows**0.5


@pytest.mark.parametrize("rows", [5, 16, 17, 300, 1000])
@pytest.mark.parametrize("half", [16, 48])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-6), (torch.bfloat16, 0.01)])
def test_compiled_gated_activation_equals_torch_in_double(
    rows: int, half: int, dtype: torch.dtype, near: float
) -> None:
    y, grad_z = 4 * torch.randn(rows, 2 * half), torch.randn(rows, half)
    y[0], y[-1] = 1e-3 * y[0], 100 * y[-1]
    y, grad_z = y.to(dtype), grad_z.to(dtype)

    bias = torch.randn(2 * half)

    found = both_ways(CpuGatedActivation, y, grad_z, bias)

    expected = both_ways(GatedActivation, y.double(), grad_z.double(), bias)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=near, atol=near)


def test_small_numbers_keep_their_digits() -> None:
    y = torch.full((16, 32), 1e-6)

    z, *_ = both_ways(CpuGatedActivation, y, torch.ones(16, 16))

    torch.testing.assert_close(z, torch.full_like(z, 5e-7), rtol=1e-5, atol=0.0)


def test_threads_change_no_bit() -> None:
    y, grad_z = torch.randn(5000, 64), torch.randn(5000, 32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = both_ways(CpuGatedActivation, y, grad_z)
        torch.set_num_threads(3)
        together = both_ways(CpuGatedActivation, y, grad_z)
    finally:
        torch.set_num_threads(before)

    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_nan_stays_nan() -> None:
    y = torch.zeros(16, 32)
    y[3, 5], y[4, 20] = torch.nan, torch.nan

    z, _, grad_y, *_ = both_ways(CpuGatedActivation, y, torch.ones(16, 16))

    assert z[3, 5].isnan()
    assert z[4, 4].isnan()
    assert grad_y[3, 5].isnan()
    assert int(z.isnan().sum()) == 2


@pytest.mark.parametrize("half", [6, 16])
def test_stack_with_compiled_activation_trains_the_same(half: int) -> None:
    stack = ResidualStack((1, 2, 4), 8, 2 * half, 8)
    x, weights = torch.randn(2, 8, 50), torch.randn(2, 8, 50)
    (stack(x) * weights).sum().backward()
    expected = [weight.grad.clone() for weight in stack.parameters() if weight.grad is not None]
    stack.zero_grad()
    stack.gated_activation = CpuGatedActivation

    (stack(x) * weights).sum().backward()

    for weight, other in zip(stack.parameters(), expected, strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, other, rtol=1e-4, atol=1e-4)


FEWER = """
import torch
from wavenet.kernels.gated_activation import CpuGatedActivation
torch.set_num_threads(3)
y, z = torch.randn(1000, 64), torch.full((1000, 32), torch.nan)
CpuGatedActivation(1000, 32, y).forward(y, None, z)
expected = y[:, :32].tanh() * y[:, 32:].sigmoid()
assert torch.allclose(z, expected, rtol=1.3e-6, atol=1e-5)  # torch.testing would load for a second
"""


def test_fewer_threads_than_requested_compute_everything() -> None:
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}

    done = subprocess.run([sys.executable, "-c", FEWER], env=environment, capture_output=True)

    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_padding_of_an_incomplete_tile_is_finite(dtype: torch.dtype) -> None:
    """Products with AMX read it; the tile before, in the same memory, is NaN."""
    rows, half = LANES + 4, LANES
    y, grad_z = torch.randn(rows, 2 * half).to(dtype), torch.randn(rows, half).to(dtype)
    grad_z[:LANES] = torch.nan
    gates = CpuGatedActivation(rows, half, y)

    gates.backward(y, None, grad_z)

    assert gates.grad_y_transposed.shape[1] > rows
    assert gates.grad_y_transposed[:, rows:].isfinite().all()
    assert gates.z_transposed[:, rows:].isfinite().all()
