from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet.modules import ResidualBlock, ResidualStack


def assert_equal_over_time(stepped: Sequence[Any], expected: Tensor) -> None:
    torch.testing.assert_close(torch.stack(list(stepped), dim=-1), expected)


def test_a_block_computes_the_formula_of_the_paper() -> None:
    block = ResidualBlock(3, 4, 5, kernel_size=2, dilation=2, residual_scale=0.5)
    x = torch.randn(1, 3, 12)
    y = block.conv(x)
    z = torch.tanh(y[:, :2]) * torch.sigmoid(y[:, 2:])

    output, skip = block(x)

    assert block.residual_conv is not None
    assert block.skip_conv is not None
    torch.testing.assert_close(output, (x + block.residual_conv(z)) * 0.5)
    torch.testing.assert_close(skip, block.skip_conv(z))


def test_a_stack_sums_and_scales_the_skips_of_its_blocks() -> None:
    stack = ResidualStack((1, 3), 3, 4, 5, skip_scale=0.25)
    x = torch.randn(1, 3, 12)
    middle, first = stack.blocks[0](x)
    _, second = stack.blocks[1](middle)

    torch.testing.assert_close(stack(x), (first + second) * 0.25)


def test_every_weight_of_a_stack_has_a_gradient() -> None:
    stack = ResidualStack((1, 2, 4), 3, 4, 5)

    stack(torch.randn(1, 3, 12)).sum().backward()

    assert all(p.grad is not None and p.grad.any() for p in stack.parameters())


def test_dropout_acts_only_in_training() -> None:
    stack = ResidualStack((1, 2), 8, 8, 8, dropout=0.5)
    x = torch.randn(1, 8, 50)

    assert not torch.equal(stack.train()(x), stack(x))
    torch.testing.assert_close(stack.eval()(x), stack(x), rtol=0, atol=0)


def test_odd_gate_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        ResidualBlock(3, 5, 3)


def test_an_overridden_activation_is_used_by_forward_prefill_and_step() -> None:
    class ReluBlock(ResidualBlock):
        def activation(self, y: Tensor, projected: Tensor | None) -> Tensor:
            return y[:, : y.shape[1] // 2].relu()

    stack = ResidualStack((1, 2), 3, 4, 5)
    stack.blocks[0] = ReluBlock(3, 4, 5, dilation=1)
    x = torch.randn(2, 3, 12)
    queues = stack.new_queues(batch_size=2)
    stack.prefill(queues, x[..., :7], 7)

    stepped = [stack.step(x[..., t], queues, t) for t in range(7, 12)]

    assert_equal_over_time(stepped, stack(x)[..., 7:])
