import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from wavenet.modules import CausalConv1d, CausalEmbedding, SameConv1d

SIZES = [(1, 1), (2, 1), (2, 8), (3, 4), (5, 3)]


@pytest.mark.parametrize(("kernel_size", "dilation"), SIZES)
def test_step_equals_forward_at_every_sample(kernel_size: int, dilation: int) -> None:
    conv = CausalConv1d(3, 5, kernel_size, dilation)
    x = torch.randn(2, 3, 4 * conv.memory + 3)  # long enough for the queue to wrap
    queue = conv.new_queue(batch_size=2)

    stepped = torch.stack([conv.step(x[..., t], queue, t) for t in range(x.shape[-1])], dim=-1)

    torch.testing.assert_close(stepped, conv(x))


@pytest.mark.parametrize("kernel_size", [1, 2])
@pytest.mark.parametrize(
    ("shape", "queue", "sentence"),
    [
        ((2, 3, 1), 2, r"^the input of a step must be \(B, 3\), got \(2, 3, 1\)"),
        ((2, 4), 2, r"^the input of a step must be \(B, 3\), got \(2, 4\)"),
        ((3,), 2, r"^the input of a step must be \(B, 3\), got \(3,\)"),
        ((2, 3), 1, "^the queue must be of the input's batch size, 2, got 1"),
    ],
)
def test_step_refuses_another_shape(
    kernel_size: int, shape: tuple[int, ...], queue: int, sentence: str
) -> None:
    conv = CausalConv1d(3, 5, kernel_size)

    with pytest.raises(ValueError, match=sentence):
        conv.step(torch.zeros(shape), conv.new_queue(queue), 0)


def test_step_refuses_the_queue_of_another_convolution() -> None:
    queue = CausalConv1d(3, 5, 3).new_queue(2)

    with pytest.raises(ValueError, match=r"^the queue must be \(2, 3, 1\), got \(2, 3, 2\)"):
        CausalConv1d(3, 5, 2).step(torch.zeros(2, 3), queue, 0)


def test_compiled_step_is_one_graph_with_its_checks() -> None:
    conv = CausalConv1d(3, 5, 2)
    x, queue = torch.randn(2, 3), conv.new_queue(2)
    step = torch.compile(conv.step, fullgraph=True, backend="eager")

    torch.testing.assert_close(step(x, queue.clone(), 0), conv.step(x, queue, 0))


@pytest.mark.parametrize(
    ("num_signals", "shape", "expected"),
    [(1, (2, 1), r"\(B,\)"), (3, (2,), r"\(B, 3\)"), (3, (2, 1), r"\(B, 3\)")],
)
def test_embedding_step_refuses_another_shape(
    num_signals: int, shape: tuple[int, ...], expected: str
) -> None:
    embedding = CausalEmbedding(7, 4, 2, num_signals=num_signals)
    code = torch.zeros(shape, dtype=torch.int64)

    with pytest.raises(ValueError, match=f"^the input of a step must be {expected}, got "):
        embedding.step(code, embedding.new_queue(2), 0)


@given(
    kernel_size=st.integers(1, 5),
    dilation=st.integers(1, 9),
    length=st.integers(1, 60),
)
def test_prefill_gives_the_queue_after_stepping(
    kernel_size: int, dilation: int, length: int
) -> None:
    conv = CausalConv1d(2, 2, kernel_size, dilation)
    x = torch.randn(1, 2, length)
    stepped, prefilled = conv.new_queue(1), conv.new_queue(1)
    for t in range(length):
        conv.step(x[..., t], stepped, t)

    conv.prefill(prefilled, x, length)

    torch.testing.assert_close(prefilled, stepped, rtol=0, atol=0)


@pytest.mark.parametrize(("kernel_size", "dilation"), SIZES)
def test_output_depends_on_the_present_and_the_past_only(kernel_size: int, dilation: int) -> None:
    conv = CausalConv1d(1, 1, kernel_size, dilation)
    x = torch.randn(1, 1, 40, requires_grad=True)

    conv(x)[0, 0, 30].backward()

    assert x.grad is not None
    seen = x.grad[0, 0].nonzero().flatten().tolist()
    assert seen == [30 - tap * dilation for tap in reversed(range(kernel_size))]


@pytest.mark.parametrize(("kernel_size", "dilation"), SIZES)
def test_same_convolution_keeps_length_and_sees_both_sides(kernel_size: int, dilation: int) -> None:
    conv = SameConv1d(1, 1, kernel_size, dilation)
    x = torch.randn(1, 1, 40, requires_grad=True)

    y = conv(x)
    y[0, 0, 20].backward()

    assert x.grad is not None
    seen = x.grad[0, 0].nonzero().flatten().tolist()
    first = 20 - (kernel_size - 1) // 2 * dilation
    assert y.shape == x.shape
    assert seen == [first + tap * dilation for tap in range(kernel_size)]


def test_same_convolution_equals_torch_for_odd_kernels() -> None:
    conv = SameConv1d(3, 4, 5, dilation=2)
    x = torch.randn(2, 3, 30)

    expected = F.conv1d(x, conv.weight, conv.bias, padding="same", dilation=2)

    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("kernel_size", [1, 2, 4])
def test_look_ups_equal_a_convolution_of_one_hot_classes(kernel_size: int) -> None:
    embedding = CausalEmbedding(7, 3, kernel_size)
    codes = torch.randint(7, (2, 20))
    one_hot = F.one_hot(codes, 7).float().transpose(1, 2)
    weight = embedding.weight.permute(2, 1, 0)  # (channels, classes, kernel_size)

    expected = F.conv1d(F.pad(one_hot, (kernel_size - 1, 0)), weight, embedding.bias)

    torch.testing.assert_close(embedding(codes), expected)


@pytest.mark.parametrize("kernel_size", [1, 2, 4])
def test_embedding_step_equals_forward_at_every_sample(kernel_size: int) -> None:
    embedding = CausalEmbedding(7, 3, kernel_size)
    codes = torch.randint(7, (2, 20))
    queue = embedding.new_queue(batch_size=2)

    stepped = torch.stack([embedding.step(codes[:, t], queue, t) for t in range(20)], dim=-1)

    torch.testing.assert_close(stepped, embedding(codes))


def test_a_signal_shorter_than_the_kernel_is_embedded() -> None:
    embedding = CausalEmbedding(7, 3, 5)

    assert embedding(torch.tensor([[1, 2]])).shape == (1, 3, 2)
