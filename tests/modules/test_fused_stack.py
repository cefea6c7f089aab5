"""The fused stack against the loop over its blocks: values, and every gradient."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.architectures import block_by_block, num_examples
from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.modules import GatedActivation, ResidualStack, fused_stack, rows
from wavenet.modules.rows import MakeGatedActivation


@st.composite
def stacks(draw: st.DrawFn) -> tuple[ResidualStack, Tensor, Tensor | None]:
    """Any small stack in float64, with an input and, if it has any, conditioning."""
    width, conditioning = draw(st.integers(1, 5)), draw(st.sampled_from([0, 3]))
    stack = ResidualStack(
        draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)),
        width,
        2 * draw(st.integers(1, 4)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        bias=draw(st.booleans()),
        residual_scale=draw(st.sampled_from([1.0, 0.5**0.5])),
        skip_scale=draw(st.sampled_from([1.0, 0.3])),
        conditioning_channels=conditioning,
    ).double()
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    x = torch.randn(shape[0], width, shape[1], dtype=torch.float64, requires_grad=True)
    if not conditioning:
        return stack, x, None
    return stack, x, torch.randn(shape[0], 3, shape[1], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("cache", [64, 2**21])
@settings(max_examples=num_examples(30))
@given(drawn=stacks(), checkpoint_activations=st.booleans())
def test_values_and_gradients_are_those_of_the_loop_over_blocks(
    cache: int, drawn: tuple[ResidualStack, Tensor, Tensor | None], checkpoint_activations: bool
) -> None:
    stack, x, conditioning = drawn
    stack.checkpoint_activations = checkpoint_activations
    inputs = [x, *([] if conditioning is None else [conditioning]), *stack.parameters()]
    expected_y = block_by_block(stack, x, conditioning)
    weights = torch.randn_like(expected_y)

    with pytest.MonkeyPatch.context() as machine:
        machine.setattr(rows, "ROW_RANGE_BYTES", cache)
        machine.setattr(fused_stack, "SKIP_GROUP_BYTES", cache)
        fused = stack(x, conditioning)
        found = torch.autograd.grad((fused * weights).sum(), inputs)

    torch.testing.assert_close(fused, expected_y)
    expected = torch.autograd.grad((expected_y * weights).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [GatedActivation, fast_gated_activation])
def test_blocks_may_lack_biases_or_have_strided_ones(
    kind: type[GatedActivation],
) -> None:
    stack = ResidualStack((1, 2, 4), 16, 32, 8)
    stack.gated_activation = kind
    first, middle, _ = stack.blocks
    for conv in (middle.conv, middle.residual_conv, middle.skip_conv):
        conv.bias = None  # type: ignore[union-attr]
    first.conv.bias = nn.Parameter(torch.randn(32, 2)[:, 0])  # type: ignore[union-attr]
    x, weights = torch.randn(1, 16, 50), list(stack.parameters())

    fused, expected_y = stack(x), block_by_block(stack, x)

    torch.testing.assert_close(fused, expected_y)
    found, expected = (torch.autograd.grad(y.sum(), weights) for y in (fused, expected_y))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.fixture
def memory_full_of_nan() -> Iterator[None]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # this fills new memory, too
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("memory_full_of_nan")
@pytest.mark.parametrize("kind", [GatedActivation, fast_gated_activation])
@pytest.mark.parametrize("gate_channels", [6, 32, 160])
def test_what_was_in_memory_reaches_no_number(
    gate_channels: int, kind: MakeGatedActivation
) -> None:
    stack = ResidualStack((1, 2, 4), 16, gate_channels, 8)
    stack.gated_activation = kind
    x = torch.randn(2, 16, 51, requires_grad=True)
    assert torch.empty(1).isnan()

    with torch.autocast("cpu", torch.bfloat16):
        y = stack(x)

    assert y.isfinite().all()
    grads = torch.autograd.grad(y.sum(), [x, *stack.parameters()], allow_unused=True)
    assert all(grad is None or grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_gradients_with_dropout_pass_gradcheck(
    checkpoint_activations: bool,
) -> None:
    stack = ResidualStack((1, 3), 3, 4, 2, dropout=0.5, residual_scale=0.7).double()
    stack.checkpoint_activations = checkpoint_activations

    def same_drops(x: Tensor, *weights: Tensor) -> Tensor:
        torch.manual_seed(0)
        by_name = dict(zip(names, weights, strict=True))
        y: Tensor = torch.func.functional_call(stack, by_name, (x,))
        return y

    names, weights = zip(*stack.named_parameters(), strict=True)
    x = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(same_drops, (x, *weights))


def test_dropout_drops_its_share_and_scales_the_rest() -> None:
    stack = ResidualStack((1,), 1, 2, 1, kernel_size=1, bias=False, dropout=0.25)
    with torch.no_grad():
        for weight in stack.parameters():
            weight.fill_(1e-3)  # so small that the gate is as good as linear

    y = stack(torch.ones(1, 1, 20_000))

    dropped = y == 0
    assert 0.23 < dropped.float().mean() < 0.27
    expected = stack.eval()(torch.ones(1, 1, 1)) / 0.75
    torch.testing.assert_close(y[~dropped], expected.expand_as(y)[~dropped], rtol=1e-3, atol=0.0)


def test_checkpointing_keeps_only_the_block_inputs() -> None:
    stack = ResidualStack((1, 2, 4, 8), 16, 32, 16)

    def kept() -> int:
        sizes: list[int] = []

        def count(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            stack(torch.randn(1, 16, 1000, requires_grad=True))
        return sum(sizes)

    everything = kept()
    stack.checkpoint_activations = True

    weights = sum(weight.numel() for weight in stack.parameters())
    assert kept() - weights == 4 * 16 * 1000  # the blocks' inputs
    assert everything - weights == 4 * (16 + 32 + 16) * 1000


def test_autocast_sets_the_precision_but_not_that_of_gradients() -> None:
    stack = ResidualStack((1, 2, 4), 16, 32, 8)
    x = torch.randn(1, 16, 200)
    expected_y = block_by_block(stack, x)

    with torch.autocast("cpu", torch.bfloat16):
        y = stack(x)
    y.float().square().mean().backward()

    assert y.dtype == torch.bfloat16
    assert all(w.grad is not None and w.grad.dtype == torch.float32 for w in stack.parameters())
    torch.testing.assert_close(y.float(), expected_y, rtol=0.05, atol=0.02)


def test_conditioning_of_another_shape_is_refused() -> None:
    stack = ResidualStack((1, 2), 4, 6, 3, conditioning_channels=3)
    x = torch.randn(2, 4, 40)

    for conditioning in (torch.randn(1, 3, 80), torch.randn(4, 3, 20), torch.randn(2, 2, 40)):
        with pytest.raises(ValueError, match=r"conditioning must be \(2, 3, 40\)"):
            stack(x, conditioning)
    with pytest.raises(ValueError, match=r"conditioning must be \(B, 3, T\), got none"):
        stack(x)
    with pytest.raises(ValueError, match="conditioning must be left out"):
        ResidualStack((1, 2), 4, 6, 3)(x, torch.randn(2, 3, 40))


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_changing_a_weight_before_backward_is_an_error(
    checkpoint_activations: bool,
) -> None:
    stack = ResidualStack((1, 2), 4, 6, 3)
    stack.checkpoint_activations = checkpoint_activations
    y = stack(torch.randn(1, 4, 10)).sum()
    with torch.no_grad():
        next(stack.parameters()).mul_(2)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_weight_norm_does_not_prevent_the_fused_stack() -> None:
    stack = ResidualStack((1, 2), 4, 6, 3)
    nn.utils.parametrizations.weight_norm(stack.blocks.get_submodule("0.conv"))

    with torch.autograd.profiler.profile() as profile:
        stack(torch.randn(1, 4, 10))

    assert any(event.name == "FusedStackFunction" for event in profile.function_events or ())


@pytest.mark.parametrize(("batch_size", "dropout"), [(0, 0.0), (1, 1.0)])
def test_empty_batches_and_full_dropout_equal_the_loop(batch_size: int, dropout: float) -> None:
    stack = ResidualStack((1, 2), 4, 6, 3, dropout=dropout)
    x = torch.randn(batch_size, 4, 10, requires_grad=True)

    y = stack(x)

    torch.testing.assert_close(y, block_by_block(stack, x))
    torch.testing.assert_close(
        *(torch.autograd.grad(out.sum(), x)[0] for out in (y, block_by_block(stack, x)))
    )


def test_no_graph_is_kept_without_gradients() -> None:
    stack = ResidualStack((1, 2), 4, 4, 4)

    with torch.no_grad():
        y = stack(torch.randn(1, 4, 10))

    assert y.grad_fn is None
