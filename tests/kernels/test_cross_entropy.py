import pytest
import torch

from wavenet.distributions.categorical import cross_entropy
from wavenet.kernels.cross_entropy import cpu_cross_entropy, fast_cross_entropy

pytestmark = pytest.mark.skipif(
    fast_cross_entropy() is cross_entropy, reason="PyTorch's threads here are not OpenMP's of GNU"
)


@pytest.mark.parametrize("classes", [16, 256, 40])  # 40 are no multiple of sixteen
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-6), (torch.bfloat16, 0.004)])
def test_compiled_cross_entropy_equals_torch_in_double(
    classes: int, dtype: torch.dtype, near: float
) -> None:
    logits = (8 * torch.randn(300, classes)).to(dtype)
    logits[0], logits[1, 3] = -500.0, 300.0
    codes, grads = torch.randint(classes, (300,)), torch.randn(300)
    codes[1] = 3
    narrow = logits.clone().requires_grad_()
    wide = logits.double().requires_grad_()

    nats = cpu_cross_entropy(narrow, codes)

    expected = cross_entropy(wide, codes)
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats.double(), expected, rtol=2e-6, atol=2e-6)
    (nats * grads).sum().backward()
    (expected * grads).sum().backward()
    assert narrow.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(
        narrow.grad.double(), wide.grad, rtol=near, atol=max(near / 100, 1e-6)
    )


def test_nan_logit_gives_nan() -> None:
    logits = torch.zeros(20, 32)
    logits[7, 30] = torch.nan

    nats = cpu_cross_entropy(logits, torch.zeros(20, dtype=torch.int64))

    assert nats[7].isnan()
    assert int(nats.isnan().sum()) == 1


def test_threads_change_no_bit() -> None:
    logits, codes = torch.randn(3000, 64), torch.randint(64, (3000,))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = cpu_cross_entropy(logits, codes)
        torch.set_num_threads(3)
        together = cpu_cross_entropy(logits, codes)
    finally:
        torch.set_num_threads(before)

    assert torch.equal(alone, together)
