import pytest
import torch

from wavenet.kernels.compiler import features
from wavenet.kernels.openmp import gomp_parallel
from wavenet.kernels.row_products import cpu_matmul, fast_matmul, has_slow_products
from wavenet.modules import ResidualStack
from wavenet.modules.rows import matmul


def _has_openmp() -> bool:
    try:
        gomp_parallel()
    except OSError:
        return False
    return "avx512f" in features()  # narrower vectors are right too, but slow to compile


pytestmark = pytest.mark.skipif(not _has_openmp(), reason="no OpenMP of GNU, or no AVX-512")


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
@pytest.mark.parametrize(
    ("rows", "inner", "width"), [(1, 1, 16), (13, 40, 48), (300, 1100, 112), (1, 600, 64)]
)
def test_product_equals_torch_in_double(
    rows: int, inner: int, width: int, transposed: str, add: bool
) -> None:
    a = torch.randn(inner, rows).t() if "a" in transposed else torch.randn(rows, inner)
    b = torch.randn(width, inner).t() if "b" in transposed else torch.randn(inner, width)
    out = torch.randn(rows, width + 5)
    expected = out.double()
    matmul(a.double(), b.double(), expected[:, 3:-2], add=add)

    cpu_matmul(a, b, out[:, 3:-2], add=add)

    torch.testing.assert_close(out, expected.float(), rtol=1e-4, atol=1e-3)


def test_rows_far_apart_are_multiplied_too() -> None:
    wide = torch.randn(20, 2000)

    out = torch.empty(50, 32)
    a = torch.randn(50, 20)
    cpu_matmul(a, wide[:, 64:96], out)

    torch.testing.assert_close(out, a @ wide[:, 64:96], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "width"), [(torch.float64, 16), (torch.bfloat16, 16), (torch.float32, 7)]
)
def test_other_dtypes_and_widths_are_computed_by_torch(dtype: torch.dtype, width: int) -> None:
    a, b = torch.randn(9, 5).to(dtype), torch.randn(5, width).to(dtype)
    out = torch.empty(9, width, dtype=dtype)

    cpu_matmul(a, b, out)

    assert torch.equal(out, a @ b)


def test_rows_and_threads_change_no_bit() -> None:
    a, b, threads = torch.randn(400, 700), torch.randn(700, 80), torch.get_num_threads()
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(torch.empty(400, 80))
        cpu_matmul(a, b, found[-1])
    torch.set_num_threads(threads)

    few = torch.empty(31, 80)
    cpu_matmul(a[7:38], b, few)

    assert all(torch.equal(one, found[0]) for one in found)
    assert torch.equal(few, found[0][7:38])


@pytest.mark.parametrize("checkpoint_activations", [False, True])
@pytest.mark.parametrize(("kernel_size", "causal"), [(2, True), (3, False)])
def test_stack_and_its_gradients_are_those_of_torch(
    kernel_size: int, causal: bool, checkpoint_activations: bool
) -> None:
    torch.manual_seed(0)
    stack = ResidualStack(
        (1, 2, 40), 32, 32, 48, kernel_size, causal=causal, conditioning_channels=7
    )
    stack.checkpoint_activations = checkpoint_activations
    x, conditioning = torch.randn(2, 32, 60), torch.randn(2, 7, 60, requires_grad=True)
    weights = [*stack.parameters(), conditioning]
    found = []
    for product in (matmul, cpu_matmul):
        stack.matmul = product
        y = stack(x, conditioning)
        found.append([y, *torch.autograd.grad(y.square().sum(), weights)])

    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "instructions", "slow"),
    [
        ("znver5", {"avx512f"}, True),
        ("znver4", {"avx512f"}, True),
        ("znver3", {"avx2"}, False),
        ("sapphirerapids", {"avx512f"}, False),
    ],
)
def test_only_amd_with_avx512_has_slow_products(
    name: str, instructions: set[str], slow: bool
) -> None:
    assert has_slow_products(name, instructions) is slow
    assert fast_matmul() in (matmul, cpu_matmul)
