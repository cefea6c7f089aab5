import pytest
import torch

from wavenet.modules import ResidualBlock, ResidualStack


def test_block_computes_the_formula_of_the_paper() -> None:
    block = ResidualBlock(3, 4, 5, kernel_size=2, dilation=2, residual_scale=0.5)
    x = torch.randn(1, 3, 12)
    y = block.conv(x)
    z = torch.tanh(y[:, :2]) * torch.sigmoid(y[:, 2:])

    onward, skip = block(x)

    assert block.residual_conv is not None
    torch.testing.assert_close(onward, (x + block.residual_conv(z)) * 0.5)
    torch.testing.assert_close(skip, block.skip_conv(z))


def test_a_stack_adds_and_scales_the_skips_of_its_blocks() -> None:
    stack = ResidualStack((1, 3), 3, 4, 5, skip_scale=0.25)
    x = torch.randn(1, 3, 12)
    middle, first = stack.blocks[0](x)
    _, second = stack.blocks[1](middle)

    torch.testing.assert_close(stack(x), (first + second) * 0.25)


def test_every_weight_of_a_stack_has_a_gradient() -> None:
    stack = ResidualStack((1, 2, 4), 3, 4, 5)

    stack(torch.randn(1, 3, 12)).sum().backward()

    assert all(p.grad is not None and p.grad.any() for p in stack.parameters())


def test_dropout_acts_in_training_only() -> None:
    stack = ResidualStack((1, 2), 8, 8, 8, dropout=0.5)
    x = torch.randn(1, 8, 50)

    assert not torch.equal(stack.train()(x), stack(x))
    torch.testing.assert_close(stack.eval()(x), stack(x), rtol=0, atol=0)


def test_an_odd_gate_is_refused() -> None:
    with pytest.raises(ValueError, match="even"):
        ResidualBlock(3, 5, 3)
