"""What a stack refuses, in a sentence, and where it leaves the fused path to the loop."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from wavenet.modules import (
    CausalConv1d,
    CausalEmbedding,
    GlobalConditioner,
    Head,
    LocalConditioner,
    ResidualBlock,
    ResidualStack,
    SameConv1d,
)


def make_stack(**options: Any) -> ResidualStack:
    return ResidualStack([1, 2], 4, 8, 4, 3, causal=False, **options)


def outcome(stack: ResidualStack, fused: bool, *inputs: Tensor, **named: Tensor) -> Any:
    """Return the output, or the error's sentence, of the stack with or without its fused path."""
    stack.fused = fused
    try:
        return stack(*inputs, **named)
    except (RuntimeError, ValueError) as error:
        return str(error)


@pytest.mark.parametrize("option", ["skip_scale", "residual_scale"])
@pytest.mark.parametrize("value", [0.5, 1.0])
def test_scale_that_is_a_parameter_gets_a_gradient(option: str, value: float) -> None:
    scale = nn.Parameter(torch.tensor(value))

    make_stack(**{option: scale})(torch.randn(2, 4, 9)).sum().backward()

    assert scale.grad is not None
    assert scale.grad != 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.half, torch.int64])
def test_input_of_another_precision_is_refused_with_or_without_fused(dtype: torch.dtype) -> None:
    stack, x = make_stack(), torch.ones(2, 4, 9, dtype=dtype)

    messages = [outcome(stack, fused, x) for fused in (True, False)]

    assert messages[0] == messages[1]
    assert isinstance(messages[0], str)


@pytest.mark.parametrize("options", [{}, {"shared_conditioning": True}])
@pytest.mark.parametrize("length", [1, 9])
def test_conditioning_of_another_precision_is_refused_with_or_without_fused(
    options: dict[str, bool], length: int
) -> None:
    stack = make_stack(conditioning_channels=3, **options)
    inputs = torch.randn(2, 4, 9), torch.randn(2, 3, length).double()

    messages = [outcome(stack, fused, *inputs) for fused in (True, False)]

    assert messages[0] == messages[1]
    assert isinstance(messages[0], str)


def test_step_embedding_of_another_precision_is_refused_with_or_without_fused() -> None:
    stack, x = make_stack(step_channels=3), torch.randn(2, 4, 9)
    vector = torch.randn(2, 3).double()

    messages = [outcome(stack, fused, x, step_embedding=vector) for fused in (True, False)]

    assert messages[0] == messages[1]
    assert isinstance(messages[0], str)


def test_float64_under_autocast_keeps_its_precision_with_or_without_fused() -> None:
    stack, x = make_stack().double(), torch.randn(2, 4, 9).double()

    with torch.autocast("cpu", torch.bfloat16):
        outputs = [outcome(stack, fused, x) for fused in (True, False)]

    assert outputs[0].dtype == torch.float64
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    "register",
    [
        torch_module.register_module_forward_hook,
        torch_module.register_module_forward_pre_hook,
        torch_module.register_module_full_backward_hook,
        torch_module.register_module_full_backward_pre_hook,
    ],
)
def test_global_hooks_see_every_block(register: Callable[..., Any]) -> None:
    seen: list[nn.Module] = []
    stack = make_stack()
    handle = register(lambda module, *_: seen.append(module))
    try:
        stack(torch.randn(2, 4, 9, requires_grad=True)).sum().backward()
    finally:
        handle.remove()

    assert set(stack.blocks) <= set(seen)


@pytest.mark.parametrize("length", [1, 9])
def test_batch_of_no_items_gives_no_items(length: int) -> None:
    stack = make_stack(conditioning_channels=3)

    output = stack(torch.randn(0, 4, 9), torch.randn(0, 3, length))

    assert output.shape == (0, 4, 9)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((2, 4), r"^the input must be \(B, C, T\), got \(2, 4\)"),
        ((2, 4, 0), r"one sample or more, got \(2, 4, 0\)"),
    ],
)
def test_input_without_batch_or_samples_is_refused(
    fused: bool, shape: tuple[int, ...], sentence: str
) -> None:
    assert_refused = pytest.raises(ValueError, match=sentence)
    stack = make_stack()
    stack.fused = fused

    with assert_refused:
        stack(torch.randn(shape))


def test_block_refuses_an_input_without_batch() -> None:
    with pytest.raises(ValueError, match=r"^the input must be \(B, C, T\), got \(2, 4\)"):
        ResidualBlock(4, 8, 4)(torch.randn(2, 4))


@pytest.mark.parametrize("shared", [False, True])
def test_step_refuses_an_input_with_a_time_axis(shared: bool) -> None:
    stack = ResidualStack([1, 2], 4, 8, 4, conditioning_channels=3, shared_conditioning=shared)
    queues, conditioning = stack.new_queues(2), torch.randn(2, 3)

    with pytest.raises(ValueError, match=r"of a step must be \(B, 4\), got \(2, 4, 1\)"):
        stack.step(torch.randn(2, 4, 1), queues, 0, conditioning)


def test_step_refuses_an_input_of_another_width() -> None:
    stack = ResidualStack([1, 2], 4, 8, 4)

    with pytest.raises(ValueError, match=r"input must be \(B, 4\), got \(2, 5\)"):
        stack.step(torch.randn(2, 5), stack.new_queues(2), 0)


def test_step_refuses_the_queues_of_another_stack() -> None:
    stack = ResidualStack([1, 2], 4, 8, 4)

    with pytest.raises(ValueError, match="queues must be those of 2 blocks, got 1"):
        stack.step(torch.randn(2, 4), stack.new_queues(2)[:1], 0)


def test_step_of_the_head_refuses_another_width() -> None:
    with pytest.raises(ValueError, match=r"of a step must be \(\.\.\., 4\), got \(2, 5\)"):
        Head(4, 8, 3).step(torch.randn(2, 5))


def test_step_refuses_queues_of_another_batch_size() -> None:
    stack = ResidualStack([1, 2], 4, 8, 4)

    with pytest.raises(ValueError, match="queue must be of the input's batch size, 2, got 1"):
        stack.step(torch.randn(2, 4), stack.new_queues(1), 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dilations", 4),
        ("dilations", "12"),
        ("dilations", [1, 0]),
        ("dilations", [1, 2.5]),
        ("residual_channels", -4),
        ("residual_channels", 0),
        ("gate_channels", 0),
        ("gate_channels", -8),
        ("skip_channels", None),
        ("skip_channels", -4),
        ("kernel_size", 0),
        ("kernel_size", 2.5),
        ("kernel_size", "3"),
        ("in_channels", -1),
        ("conditioning_channels", -1),
        ("step_channels", -1),
        ("film_channels", -1),
        ("dropout", math.nan),
        ("dropout", 1.5),
        ("residual_scale", math.nan),
        ("skip_scale", math.inf),
    ],
)
def test_option_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    sizes = {"dilations": [1, 2], "residual_channels": 4, "gate_channels": 8, "skip_channels": 4}

    with pytest.raises(ValueError, match=f"^{name} must be "):
        ResidualStack(**{**sizes, name: value})


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("num_speakers", lambda: GlobalConditioner(8, -3)),
        ("channels", lambda: GlobalConditioner(0, 3)),
        ("conditioning_dropout", lambda: GlobalConditioner(8, 3, conditioning_dropout=2.0)),
        ("conditioning_dropout", lambda: GlobalConditioner(8, 3, conditioning_dropout=math.nan)),
        ("upsample_scales", lambda: LocalConditioner(8, 8, (2.5,))),  # type: ignore[arg-type]
        ("in_channels", lambda: LocalConditioner(0, 8, (2,))),
        ("kernel_size", lambda: LocalConditioner(8, 8, (2,), kernel_size=0)),
        ("kernel_size", lambda: CausalConv1d(3, 3, 1.5)),  # type: ignore[arg-type]
        ("in_channels", lambda: CausalConv1d(0, 3, 2)),
        ("dilation", lambda: SameConv1d(3, 3, 2, 0)),
        ("num_classes", lambda: CausalEmbedding(0, 8)),
    ],
)
def test_option_of_a_part_out_of_range_is_refused_by_name(
    name: str, build: Callable[[], nn.Module]
) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        build()


def test_sizes_may_be_whole_numbers_of_any_type() -> None:
    def dilations() -> Iterator[np.int64]:
        yield from (np.int64(1), np.int64(2))

    sizes: list[Any] = [dilations(), 4, 8, 4, np.int64(3)]

    stack = ResidualStack(*sizes)

    assert stack.dilations == (1, 2)
    assert [block.conv.kernel_size for block in stack._blocks()] == [(3,), (3,)]


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(1, 4, 9, dtype=torch.float64), ValueError, "x must be of the weights' dtype"),
        (np.zeros((1, 4, 9), np.float32), TypeError, "x must be a tensor, got ndarray: use torch"),
    ],
)
def test_a_stream_refuses_another_dtype_and_arrays(
    x: Any, error: type[Exception], message: str
) -> None:
    stream = ResidualStack((1, 2), 4, 4, 4).eval().stream()

    with pytest.raises(error, match=message):
        stream.push(x, stream.new_state(1))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(1, 9), ValueError, "must be classes, int64, got torch.float32: encode a"),
        (torch.zeros(1, 9, dtype=torch.bool), ValueError, "must be classes, int64, got torch.bool"),
        (np.zeros((1, 9), np.int64), TypeError, "the input must be a tensor, got ndarray: use"),
    ],
)
def test_an_embedding_refuses_values_and_arrays(
    x: Any, error: type[Exception], message: str
) -> None:
    embedding = CausalEmbedding(8, 4, 2)

    with pytest.raises(error, match=message):
        embedding(x)


@pytest.mark.parametrize("class_of_code", [None, torch.zeros(8, dtype=torch.int64)])
def test_an_embedding_refuses_a_class_that_it_has_not(class_of_code: Tensor | None) -> None:
    embedding = CausalEmbedding(8, 4, 2, class_of_code=class_of_code)
    codes = torch.tensor([[0, 3, 300]])

    with pytest.raises(ValueError, match="^classes must be 0 to 7, got 0 to 300"):
        embedding(codes)
    with pytest.raises(ValueError, match="^classes must be 0 to 7, got 300 to 300"):
        embedding.step(codes[:, 2], embedding.new_queue(1), 0)


def test_an_embedding_takes_int32_classes() -> None:
    embedding, classes = CausalEmbedding(8, 4, 2), torch.randint(8, (2, 9))

    assert torch.equal(embedding(classes.int()), embedding(classes))
