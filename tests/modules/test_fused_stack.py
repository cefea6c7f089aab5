"""The training pass against the blocks one after the other: values, and every gradient."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.modules import GatedActivation, ResidualStack, fused_stack, rows


def block_by_block(stack: ResidualStack, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
    """What the loop over the blocks gives: the definition."""
    stack.fused = False
    y: Tensor = stack(x, conditioning)
    stack.fused = True
    return y


@st.composite
def stacks(draw: st.DrawFn) -> tuple[ResidualStack, Tensor, Tensor | None]:
    """Any stack, small, in float64, with an input and a condition if it wants one."""
    width, condition = draw(st.integers(1, 5)), draw(st.sampled_from([0, 3]))
    stack = ResidualStack(
        draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)),
        width,
        2 * draw(st.integers(1, 4)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        bias=draw(st.booleans()),
        residual_scale=draw(st.sampled_from([1.0, 0.5**0.5])),
        skip_scale=draw(st.sampled_from([1.0, 0.3])),
        conditioning_channels=condition,
    ).double()
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    x = torch.randn(shape[0], width, shape[1], dtype=torch.float64, requires_grad=True)
    if not condition:
        return stack, x, None
    return stack, x, torch.randn(shape[0], 3, shape[1], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("cache", [64, 2**21])
@settings(max_examples=100)
@given(drawn=stacks(), checkpoint_activations=st.booleans())
def test_values_and_gradients_equal_the_loop_over_blocks(
    cache: int, drawn: tuple[ResidualStack, Tensor, Tensor | None], checkpoint_activations: bool
) -> None:
    stack, x, condition = drawn
    stack.checkpoint_activations = checkpoint_activations
    inputs = [x, *([] if condition is None else [condition]), *stack.parameters()]
    plain = block_by_block(stack, x, condition)
    weights = torch.randn_like(plain)

    with pytest.MonkeyPatch.context() as machine:
        machine.setattr(rows, "ROW_RANGE_BYTES", cache)
        machine.setattr(fused_stack, "SKIP_GROUP_BYTES", cache)
        fast = stack(x, condition)
        found = torch.autograd.grad((fast * weights).sum(), inputs)

    torch.testing.assert_close(fast, plain)
    expected = torch.autograd.grad((plain * weights).sum(), inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [GatedActivation, fast_gated_activation()])
def test_blocks_without_bias_and_with_strided_bias_are_fused(
    kind: type[GatedActivation],
) -> None:
    stack = ResidualStack((1, 2, 4), 16, 32, 8)
    stack.gated_activation = kind
    first, middle, _ = stack.blocks
    middle.conv.bias = middle.residual_conv.bias = middle.skip_conv.bias = None  # type: ignore[union-attr]
    first.conv.bias = nn.Parameter(torch.randn(32, 2)[:, 0])  # type: ignore[union-attr]
    x, weights = torch.randn(1, 16, 50), list(stack.parameters())

    fast, plain = stack(x), block_by_block(stack, x)

    torch.testing.assert_close(fast, plain)
    found, expected = (torch.autograd.grad(y.sum(), weights) for y in (fast, plain))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_gradients_with_dropout_match_the_forward_pass(
    checkpoint_activations: bool,
) -> None:
    stack = ResidualStack((1, 3), 3, 4, 2, dropout=0.5, residual_scale=0.7).double()
    stack.checkpoint_activations = checkpoint_activations

    def same_drops(x: Tensor, *weights: Tensor) -> Tensor:
        torch.manual_seed(0)
        given_ones = dict(zip(names, weights, strict=True))
        y: Tensor = torch.func.functional_call(stack, given_ones, (x,))
        return y

    names, weights = zip(*stack.named_parameters(), strict=True)
    x = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(same_drops, (x, *weights))


def test_dropout_drops_its_share_and_rescales_the_rest() -> None:
    stack = ResidualStack((1,), 1, 2, 1, kernel_size=1, bias=False, dropout=0.25)
    with torch.no_grad():
        for weight in stack.parameters():
            weight.fill_(1e-3)  # so small that the gate is as good as linear

    y = stack(torch.ones(1, 1, 20_000))

    dropped = y == 0
    assert 0.23 < dropped.float().mean() < 0.27
    expected = stack.eval()(torch.ones(1, 1, 1)) / 0.75
    torch.testing.assert_close(y[~dropped], expected.expand_as(y)[~dropped], rtol=1e-3, atol=0.0)


def test_activation_checkpointing_keeps_fewer_tensors_for_backward() -> None:
    stack = ResidualStack((1, 2, 4, 8), 16, 32, 16)

    def kept() -> int:
        sizes: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            stack(torch.randn(1, 16, 1000, requires_grad=True))
        return sum(sizes)

    whole = kept()
    stack.checkpoint_activations = True

    weights = sum(weight.numel() for weight in stack.parameters())
    assert kept() - weights == 4 * 16 * 1000  # the blocks' inputs
    assert whole - weights == 4 * (16 + 32 + 16) * 1000


def test_autocast_computes_in_its_dtype_and_gradients_in_the_weights_dtype() -> None:
    stack = ResidualStack((1, 2, 4), 16, 32, 8)
    x = torch.randn(1, 16, 200)
    plain = block_by_block(stack, x)

    with torch.autocast("cpu", torch.bfloat16):
        y = stack(x)
    y.float().square().mean().backward()

    assert y.dtype == torch.bfloat16
    assert all(w.grad is not None and w.grad.dtype == torch.float32 for w in stack.parameters())
    torch.testing.assert_close(y.float(), plain, rtol=0.05, atol=0.02)


def test_conditioning_of_wrong_shape_is_refused() -> None:
    stack = ResidualStack((1, 2), 4, 6, 3, conditioning_channels=3)
    x = torch.randn(2, 4, 40)

    for condition in (torch.randn(1, 3, 80), torch.randn(4, 3, 20), torch.randn(2, 3, 1), None):
        with pytest.raises(ValueError, match=r"conditioning must be \(2, 3, 40\)"):
            stack(x, condition)
    with pytest.raises(ValueError, match="conditioning must be left out"):
        ResidualStack((1, 2), 4, 6, 3)(x, torch.randn(2, 3, 40))


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_weight_changed_before_backward_is_an_error(
    checkpoint_activations: bool,
) -> None:
    stack = ResidualStack((1, 2), 4, 6, 3)
    stack.checkpoint_activations = checkpoint_activations
    y = stack(torch.randn(1, 4, 10)).sum()
    with torch.no_grad():
        next(stack.parameters()).mul_(2)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


class Adapted(nn.Module):
    """A convolution with something beside it, that shows the convolution's weights."""

    def __init__(self, inner: nn.Conv1d) -> None:
        super().__init__()
        self.inner = inner
        self.weight, self.bias = inner.weight, inner.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return 2 * y


def part(stack: ResidualStack, name: str) -> nn.Conv1d:
    found = stack.blocks.get_submodule(name)
    assert isinstance(found, nn.Conv1d)
    return found


def hang_on_block(stack: ResidualStack) -> None:
    stack.blocks[0].register_forward_hook(lambda block, inputs, output: (output[0], 3 * output[1]))


def hang_on_part(stack: ResidualStack) -> None:
    part(stack, "0.skip_conv").register_forward_pre_hook(lambda part, inputs: 2 * inputs[0])


def hang_on_the_way_back(stack: ResidualStack) -> None:
    def doubled(module: nn.Module, grads: Any, _: Any) -> tuple[Tensor]:
        return (2 * grads[0],)

    part(stack, "0.conv").register_full_backward_hook(doubled)


def exchange_part(stack: ResidualStack) -> None:
    stack.blocks[0].skip_conv = Adapted(part(stack, "0.skip_conv"))


def exchange_call(stack: ResidualStack) -> None:
    vars(part(stack, "1.skip_conv"))["forward"] = lambda z: z[:, :3]


def exchange_dilation(stack: ResidualStack) -> None:
    stack.blocks[1].conv = stack.blocks[0].conv


def leave_out_block(stack: ResidualStack) -> None:
    stack.blocks = stack.blocks[:2]


def do_not_drop(stack: ResidualStack) -> None:
    for block in stack.blocks:
        block.eval()


@pytest.mark.parametrize(
    "change",
    [
        hang_on_block,
        hang_on_part,
        hang_on_the_way_back,
        exchange_part,
        exchange_call,
        exchange_dilation,
        leave_out_block,
        do_not_drop,
    ],
)
def test_changed_blocks_are_computed_block_by_block(
    change: Callable[[ResidualStack], None],
) -> None:
    stack = ResidualStack((1, 2, 4), 4, 6, 3, dropout=0.5 if change is do_not_drop else 0.0)
    x, before = torch.randn(1, 4, 20, requires_grad=True), copy.deepcopy(stack)
    change(stack)

    y = stack(x)

    (grad,) = torch.autograd.grad(y.sum(), x)
    expected = block_by_block(stack, x)
    torch.testing.assert_close(y, expected, rtol=0.0, atol=0.0)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), x)[0])
    assert not torch.equal(grad, torch.autograd.grad(before(x).sum(), x)[0])


def test_parametrized_weights_are_used_by_the_fused_stack() -> None:
    stack = ResidualStack((1, 2), 4, 6, 3)
    nn.utils.parametrizations.weight_norm(part(stack, "0.conv"))

    with torch.autograd.profiler.profile() as profile:
        stack(torch.randn(1, 4, 10))

    assert any(event.name == "FusedStackFunction" for event in profile.function_events or ())


def test_second_derivatives_are_refused_with_an_alternative() -> None:
    stack = ResidualStack((1, 2), 4, 6, 3)
    x = torch.randn(1, 4, 10, requires_grad=True)

    with pytest.raises(RuntimeError, match="set stack.fused = False"):
        torch.autograd.grad(stack(x).sum(), x, create_graph=True)
    stack.fused = False
    (grad,) = torch.autograd.grad(stack(x).sum(), x, create_graph=True)
    grad.square().sum().backward()


@pytest.mark.parametrize(("batch_size", "dropout"), [(0, 0.0), (1, 1.0)])
def test_empty_batch_and_full_dropout_equal_the_blocks(batch_size: int, dropout: float) -> None:
    stack = ResidualStack((1, 2), 4, 6, 3, dropout=dropout)
    x = torch.randn(batch_size, 4, 10, requires_grad=True)

    y = stack(x)

    torch.testing.assert_close(y, block_by_block(stack, x))
    torch.testing.assert_close(
        *(torch.autograd.grad(out.sum(), x)[0] for out in (y, block_by_block(stack, x)))
    )


def test_no_tensor_is_kept_without_gradients() -> None:
    stack = ResidualStack((1, 2), 4, 4, 4)

    with torch.no_grad():
        y = stack(torch.randn(1, 4, 10))

    assert y.grad_fn is None
