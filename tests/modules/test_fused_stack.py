"""The fused stack against the loop over its blocks: values, and every gradient."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.modules import (
    CausalConv1d,
    GatedActivation,
    ResidualBlock,
    ResidualStack,
    fused_stack,
    rows,
)


def block_by_block(stack: ResidualStack, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
    """What the loop over the blocks gives: the definition."""
    stack.fused = False
    y: Tensor = stack(x, conditioning)
    stack.fused = True
    return y


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
@settings(max_examples=100)
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


@pytest.mark.parametrize("kind", [GatedActivation, fast_gated_activation()])
def test_blocks_may_lack_biases_or_have_strided_ones(
    kind: type[GatedActivation],
) -> None:
    stack = ResidualStack((1, 2, 4), 16, 32, 8)
    stack.gated_activation = kind
    first, middle, _ = stack.blocks
    middle.conv.bias = middle.residual_conv.bias = middle.skip_conv.bias = None  # type: ignore[union-attr]
    first.conv.bias = nn.Parameter(torch.randn(32, 2)[:, 0])  # type: ignore[union-attr]
    x, weights = torch.randn(1, 16, 50), list(stack.parameters())

    fused, expected_y = stack(x), block_by_block(stack, x)

    torch.testing.assert_close(fused, expected_y)
    found, expected = (torch.autograd.grad(y.sum(), weights) for y in (fused, expected_y))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


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

    for conditioning in (torch.randn(1, 3, 80), torch.randn(4, 3, 20), torch.randn(2, 3, 1), None):
        with pytest.raises(ValueError, match=r"conditioning must be \(2, 3, 40\)"):
            stack(x, conditioning)
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


class Adapted(nn.Module):
    """A wrapper of a convolution that shows the convolution's weights."""

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


def hook_block(stack: ResidualStack) -> None:
    stack.blocks[0].register_forward_hook(lambda block, inputs, output: (output[0], 3 * output[1]))


def hook_part(stack: ResidualStack) -> None:
    part(stack, "0.skip_conv").register_forward_pre_hook(lambda part, inputs: 2 * inputs[0])


def hook_backward(stack: ResidualStack) -> None:
    def doubled(module: nn.Module, grads: Any, _: Any) -> tuple[Tensor]:
        return (2 * grads[0],)

    part(stack, "0.conv").register_full_backward_hook(doubled)


def replace_part(stack: ResidualStack) -> None:
    stack.blocks[0].skip_conv = Adapted(part(stack, "0.skip_conv"))


def set_forward(stack: ResidualStack) -> None:
    vars(part(stack, "1.skip_conv"))["forward"] = lambda z: z[:, :3]


def replace_dilated_conv(stack: ResidualStack) -> None:
    stack.blocks[1].conv = stack.blocks[0].conv


def remove_block(stack: ResidualStack) -> None:
    stack.blocks = stack.blocks[:2]


class ReluBlock(ResidualBlock):
    def activation(self, y: Tensor, projected: Tensor | None) -> Tensor:
        return super().activation(y, projected).relu()


class DoubledConv(CausalConv1d):
    def _conv_forward(self, *arguments: Any) -> Tensor:
        y: Tensor = super()._conv_forward(*arguments)
        return 2 * y


def subclass_block(stack: ResidualStack) -> None:
    stack.blocks[1].__class__ = ReluBlock


def subclass_conv(stack: ResidualStack) -> None:
    part(stack, "1.conv").__class__ = DoubledConv


def set_activation(stack: ResidualStack) -> None:
    vars(stack.blocks[1])["activation"] = lambda y, projected: y[:, :3].relu()


def widen_a_block(stack: ResidualStack) -> None:
    stack.blocks[1] = ResidualBlock(4, 8, 3, dilation=2)


def change_stride(stack: ResidualStack) -> None:
    part(stack, "2.conv").stride = (2,)
    stack.blocks[2].skip_conv = nn.ConvTranspose1d(3, 3, 2, stride=2)


def remove_residual(stack: ResidualStack) -> None:
    vars(stack.blocks[1])["_modules"]["residual_conv"] = None


def stop_dropout(stack: ResidualStack) -> None:
    for block in stack.blocks:
        block.eval()


@pytest.mark.parametrize(
    "change",
    [
        hook_block,
        hook_part,
        hook_backward,
        replace_part,
        set_forward,
        replace_dilated_conv,
        remove_block,
        subclass_block,
        subclass_conv,
        set_activation,
        widen_a_block,
        change_stride,
        remove_residual,
        stop_dropout,
    ],
)
def test_changed_blocks_are_run_by_the_loop(change: Callable[[ResidualStack], None]) -> None:
    stack = ResidualStack((1, 2, 4), 4, 6, 3, dropout=0.5 if change is stop_dropout else 0.0)
    x, before = torch.randn(1, 4, 20, requires_grad=True), copy.deepcopy(stack)
    change(stack)

    y = stack(x)

    (grad,) = torch.autograd.grad(y.sum(), x)
    expected = block_by_block(stack, x)
    torch.testing.assert_close(y, expected, rtol=0.0, atol=0.0)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), x)[0])
    assert not torch.equal(grad, torch.autograd.grad(before(x).sum(), x)[0])


def test_a_conditioning_bias_is_added_by_the_loop() -> None:
    stack = ResidualStack((1, 2), 4, 6, 3, conditioning_channels=2)
    x, conditioning = torch.randn(1, 4, 10), torch.randn(1, 2, 10)
    before = stack(x, conditioning)
    part(stack, "0.conditioning_conv").bias = nn.Parameter(torch.ones(6))

    assert stack.standard_weights() is None
    assert not torch.allclose(stack(x, conditioning), before)


def test_weight_norm_does_not_prevent_the_fused_stack() -> None:
    stack = ResidualStack((1, 2), 4, 6, 3)
    nn.utils.parametrizations.weight_norm(part(stack, "0.conv"))

    with torch.autograd.profiler.profile() as profile:
        stack(torch.randn(1, 4, 10))

    assert any(event.name == "FusedStackFunction" for event in profile.function_events or ())


def test_second_derivatives_are_refused_unless_fused_is_off() -> None:
    stack = ResidualStack((1, 2), 4, 6, 3)
    x = torch.randn(1, 4, 10, requires_grad=True)

    with pytest.raises(RuntimeError, match="set stack.fused = False"):
        torch.autograd.grad(stack(x).sum(), x, create_graph=True)
    stack.fused = False
    (grad,) = torch.autograd.grad(stack(x).sum(), x, create_graph=True)
    grad.square().sum().backward()


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
