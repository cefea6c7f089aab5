"""Blocks that are not as `ResidualStack` built them are run by the loop, not by the fused stack."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.architectures import block_by_block
from wavenet.modules import CausalConv1d, ResidualBlock, ResidualStack


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

    assert stack.fusable_weights(torch.zeros(1, 3, 5)) is None
    assert not torch.allclose(stack(x, conditioning), before)
