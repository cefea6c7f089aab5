"""What `prefill` and `step` refuse: batches, positions, arrays and dtypes that cannot be right."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wavenet.modules import CausalConv1d, Head, ResidualBlock, ResidualStack

NO_POSITIONS = [-1, 1.0, "1", None, torch.tensor(1.0), torch.tensor([1])]


@pytest.fixture
def stack() -> ResidualStack:
    torch.manual_seed(0)
    return ResidualStack([1, 2], 4, 8, 4, conditioning_channels=3).eval()


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, 9), torch.randn(2, 3, 9)


def test_prefill_refuses_queues_of_another_batch_size(
    stack: ResidualStack, inputs: tuple[Tensor, Tensor]
) -> None:
    x, conditioning = inputs
    sentence = "queue must be of the input's batch size, 1, got 2"
    queues, block, conv = stack.new_queues(2), ResidualBlock(4, 8, 4), CausalConv1d(4, 5, 2)

    with pytest.raises(ValueError, match=sentence):
        stack.prefill(queues, x[:1], 9, conditioning[:1])
    with pytest.raises(ValueError, match=sentence):
        stack.prefill([*stack.new_queues(1)[:1], queues[1]], x[:1], 9, conditioning[:1])
    with pytest.raises(ValueError, match=sentence):
        block.prefill(block.new_queue(2), x[:1], 9)
    with pytest.raises(ValueError, match=sentence):
        conv.prefill(conv.new_queue(2), x[:1], 9)
    assert not any(queue.any() for queue in queues)


def test_prefill_refuses_more_samples_than_its_position(
    stack: ResidualStack, inputs: tuple[Tensor, Tensor]
) -> None:
    x, conditioning = inputs
    sentence = "position must be the number of samples before the next step, 9 or more .* got 5"
    block, conv = ResidualBlock(4, 8, 4), CausalConv1d(4, 5, 2)

    with pytest.raises(ValueError, match=sentence):
        stack.prefill(stack.new_queues(2), x, 5, conditioning)
    with pytest.raises(ValueError, match=sentence):
        block.prefill(block.new_queue(2), x, 5)
    with pytest.raises(ValueError, match=sentence):
        conv.prefill(conv.new_queue(2), x, 5)


@pytest.mark.parametrize("position", NO_POSITIONS, ids=repr)
def test_position_that_is_no_whole_number_is_refused(
    stack: ResidualStack, inputs: tuple[Tensor, Tensor], position: Any
) -> None:
    x, conditioning = inputs
    queues, conv = stack.new_queues(2), CausalConv1d(4, 5, 1)
    sentence = "^position must be a whole number, 0 or more, got "

    with pytest.raises(ValueError, match=sentence):
        stack.prefill(queues, x, position, conditioning)
    with pytest.raises(ValueError, match=sentence):
        stack.step(x[..., 0], queues, position, conditioning[..., 0])
    with pytest.raises(ValueError, match=sentence):
        conv.prefill(conv.new_queue(2), x, position)
    with pytest.raises(ValueError, match=sentence):
        conv.step(x[..., 0], conv.new_queue(2), position)
    assert not any(queue.any() for queue in queues)


@pytest.mark.parametrize("position", [np.int64(8), torch.tensor(8)], ids=repr)
def test_position_may_be_a_whole_number_of_any_type(
    stack: ResidualStack, inputs: tuple[Tensor, Tensor], position: Any
) -> None:
    x, conditioning = inputs
    queues = stack.new_queues(2)

    stack.prefill(queues, x[..., :8], position, conditioning[..., :8])
    y = stack.step(x[..., 8], queues, position, conditioning[..., 8])

    torch.testing.assert_close(y, stack(x, conditioning)[..., 8])


def test_a_compiled_step_takes_any_position(
    stack: ResidualStack, inputs: tuple[Tensor, Tensor]
) -> None:
    x, conditioning = inputs
    queues = stack.new_queues(2)
    step = torch.compile(stack.step, backend="eager", fullgraph=True, dynamic=True)

    with torch.no_grad():
        outputs: list[Any] = [step(x[..., t], queues, t, conditioning[..., t]) for t in range(5)]

        torch.testing.assert_close(torch.stack(outputs, dim=-1), stack(x, conditioning)[..., :5])


def test_arrays_are_refused_by_blocks(stack: ResidualStack, inputs: tuple[Tensor, Tensor]) -> None:
    x, conditioning = inputs
    arrays: list[Any] = [x.numpy(), conditioning.numpy()]
    queues, conv = stack.new_queues(2), CausalConv1d(4, 5, 2)
    queue = conv.new_queue(2)

    for call in (
        lambda: stack(arrays[0], conditioning),
        lambda: stack(x, arrays[1]),
        lambda: stack(x, conditioning, mask=arrays[0][:, :1]),
        lambda: stack.blocks[0](arrays[0], conditioning),
        lambda: stack.prefill(queues, arrays[0], 9, conditioning),
        lambda: stack.prefill(queues, x, 9, arrays[1]),
        lambda: stack.step(arrays[0][..., 0], queues, 0, conditioning[..., 0]),
        lambda: stack.step(x[..., 0], queues, 0, arrays[1][..., 0]),
        lambda: conv(arrays[0]),
        lambda: Head(4, 8, 3)(arrays[0]),
        lambda: Head(4, 8, 3).step(arrays[0][..., 0]),
        lambda: conv.prefill(queue, arrays[0], 9),
        lambda: conv.step(arrays[0][..., 0], queue, 0),
    ):
        with pytest.raises(TypeError, match=r"must be a tensor, got ndarray: use torch.from_numpy"):
            call()


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bfloat16])
def test_input_of_another_dtype_is_refused_by_name(
    stack: ResidualStack, inputs: tuple[Tensor, Tensor], dtype: torch.dtype
) -> None:
    x, conditioning = inputs[0].to(dtype), inputs[1]
    queues, conv = stack.new_queues(2), CausalConv1d(4, 5, 2)

    for call in (
        lambda: stack(x, conditioning),
        lambda: stack.blocks[0](x, conditioning),
        lambda: stack.prefill(queues, x, 9, conditioning),
        lambda: stack.step(x[..., 0], queues, 0, conditioning[..., 0]),
        lambda: conv(x),
    ):
        with pytest.raises(ValueError, match=f"weights' dtype, torch.float32, got {dtype}"):
            call()


@pytest.mark.parametrize("shared", [False, True])
def test_conditioning_of_another_dtype_is_refused_by_name(
    inputs: tuple[Tensor, Tensor], shared: bool
) -> None:
    options: dict[str, Any] = {"conditioning_channels": 3, "shared_conditioning": shared}
    stack, (x, conditioning) = ResidualStack([1, 2], 4, 8, 4, **options), inputs
    queues, conditioning = stack.new_queues(2), conditioning.double()

    for call in (
        lambda: stack(x, conditioning),
        lambda: stack.prefill(queues, x, 9, conditioning),
        lambda: stack.step(x[..., 0], queues, 0, conditioning[..., 0]),
    ):
        with pytest.raises(ValueError, match="^conditioning must be of the weights' dtype"):
            call()


def test_a_hook_may_convert_the_input_of_a_convolution() -> None:
    conv, x = CausalConv1d(4, 5, 2), torch.randn(2, 4, 9)
    conv.register_forward_pre_hook(lambda _, given: (given[0].float(),))
    block = ResidualBlock(5, 8, 4, conditioning_channels=4)
    assert block.conditioning_conv is not None
    block.conditioning_conv.register_forward_pre_hook(lambda _, given: (given[0].float(),))

    torch.testing.assert_close(conv(x.double()), conv(x))
    torch.testing.assert_close(block(conv(x), x.double())[1], block(conv(x), x)[1])
