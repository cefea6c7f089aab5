"""Streams against `forward`: for any stack or upsampling network, and any way to cut its input."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pytest
import torch
from hypothesis import given, settings, target
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.architectures import local_configs, num_examples
from wavenet.modules import LocalConditioner, ResidualBlock, ResidualStack
from wavenet.modules.streaming import StackState
from wavenet.modules.upsampling import UPSAMPLERS

EXAMPLES = num_examples(15)
GATES: list[Any] = ["tanh*sigmoid", "sigmoid*tanh", "tanh", "relu", "leaky_relu", nn.GLU(dim=1)]

Inputs = dict[str, Tensor]


@st.composite
def stacks(draw: st.DrawFn) -> ResidualStack:
    """Any small stack."""
    count, conditioning = draw(st.integers(1, 5)), draw(st.sampled_from([0, 3]))
    dilations = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    kernel_size = st.integers(1, 5)
    output = draw(st.sampled_from(["skip", "residual", "both"]))
    torch.manual_seed(draw(st.integers(0, 2**20)))
    return ResidualStack(
        dilations,
        draw(st.integers(1, 5)),
        2 * draw(st.integers(1, 4)),
        0 if output == "residual" else draw(st.integers(1, 5)),
        draw(st.one_of(kernel_size, st.tuples(*[kernel_size] * count))),
        in_channels=draw(st.sampled_from([None, 2])),
        causal=draw(st.sampled_from([False, False, True])),
        bias=draw(st.booleans()),
        gate=draw(st.sampled_from(GATES)),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        dropout_at=draw(st.sampled_from(["input", "before_gate", "gate"])),
        residual_scale=draw(st.sampled_from([1.0, 0.5**0.5])),
        skip_scale=draw(st.sampled_from([1.0, 0.3])),
        output=output,  # type: ignore[arg-type]
        conditioning_channels=conditioning,
        shared_conditioning=bool(conditioning) and draw(st.booleans()),
        step_channels=draw(st.sampled_from([0, 4])),
        film_channels=draw(st.sampled_from([0, 2])),
    ).eval()


@st.composite
def chunkings(draw: st.DrawFn) -> list[int]:
    """Lengths of chunks, one of them not empty."""
    lengths = draw(st.lists(st.sampled_from([0, 1, 1, 2, 7, 30]), max_size=12))
    return [*lengths, draw(st.integers(1, 9))]


def given_inputs(
    stack: ResidualStack, length: int, one_for_all: bool, masked: bool
) -> tuple[Inputs, Inputs]:
    """What a stack needs for all samples, and what it needs by sample."""
    block, like = stack.blocks[0], next(stack.parameters())
    assert isinstance(block, ResidualBlock)
    constant: Inputs = {}
    signals = {"x": torch.randn(2, block.conv.in_channels, length).to(like)}
    conv = stack.conditioning_conv or block.conditioning_conv
    if conv is not None:
        where = constant if one_for_all else signals
        shape = (2, conv.in_channels, 1 if one_for_all else length)
        where["conditioning"] = torch.randn(shape).to(like)
    if block.film_conv is not None and one_for_all:
        constant["film"] = torch.randn(2, block.film_conv.in_channels).to(like)
    elif block.film_conv is not None:
        signals["film"] = torch.randn(2, block.film_conv.in_channels, length).to(like)
    if block.step_projection is not None:
        constant["step_embedding"] = torch.randn(2, block.step_projection.in_features).to(like)
    if masked:
        ends = torch.tensor([length, length // 2]).view(2, 1, 1)
        signals["mask"] = (torch.arange(length) < ends).to(like)
    return constant, signals


def as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def stream_stack(
    stack: ResidualStack, constant: Inputs, signals: Inputs, lengths: Sequence[int]
) -> tuple[Tensor, ...]:
    """The outputs of a stack, chunk by chunk."""
    stream, start, parts = stack.stream(), 0, []
    state = stream.new_state(2, **constant)
    for length in lengths:
        chunk = {name: signal[..., start : start + length] for name, signal in signals.items()}
        parts.append(as_tuple(stream.push(chunk.pop("x"), state, **chunk)))
        start += length
        final = sum(part[0].shape[-1] for part in parts)
        assert final == max(0, start - stream.lookahead)
    parts.append(as_tuple(stream.flush(state)))
    return tuple(torch.cat(outputs, dim=-1) for outputs in zip(*parts, strict=True))


def largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference, relative to the largest value where that is above 1."""
    assert [x.shape for x in found] == [x.shape for x in expected]
    pairs = zip(found, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs)


@settings(max_examples=EXAMPLES)
@given(
    stack=stacks(),
    lengths=chunkings(),
    one_for_all=st.booleans(),
    masked=st.booleans(),
    double=st.booleans(),
)
def test_a_stream_of_any_stack_in_any_chunks_equals_forward(
    stack: ResidualStack, lengths: list[int], one_for_all: bool, masked: bool, double: bool
) -> None:
    stack = stack.double() if double else stack
    constant, signals = given_inputs(stack, sum(lengths), one_for_all, masked)
    with torch.no_grad():
        expected = as_tuple(stack(**signals, **constant))

    found = stream_stack(stack, constant, signals, lengths)

    difference = largest_difference(found, expected)
    if not double:
        target(difference, label="difference in float32")
    assert difference <= (1e-12 if double else 1e-6)


@settings(max_examples=EXAMPLES)
@given(config=local_configs(), lengths=chunkings(), double=st.booleans())
def test_streamed_frames_equal_forward_of_all_frames(
    config: Any, lengths: list[int], double: bool
) -> None:
    torch.manual_seed(0)
    conditioner = LocalConditioner(**asdict(config))
    conditioner = conditioner.double() if double else conditioner
    frames = torch.randn(2, config.in_channels, sum(lengths)).to(conditioner.conv_in.weight)
    stream = conditioner.stream()
    state = stream.new_state(2)

    parts = [stream.push(chunk, state) for chunk in frames.split(lengths, dim=-1)]
    parts.append(stream.flush(state))

    with torch.no_grad():
        expected = conditioner(frames)
    difference = largest_difference([torch.cat(parts, dim=-1)], [expected])
    assert difference <= (1e-12 if double else 1e-6)


def test_frames_and_samples_stream_together_as_in_a_vocoder() -> None:
    torch.manual_seed(0)
    conditioner = LocalConditioner(3, 4, (4, 2), lookahead=1, context_dilations=(1, 2))
    stack = small_stack(kernel_size=3, conditioning_channels=4)
    frames, x = torch.randn(1, 3, 30), torch.randn(1, 4, 240)
    from_frames, from_samples = conditioner.stream(), stack.stream()
    frame_state, state = from_frames.new_state(1), from_samples.new_state(1)
    upsampled = [from_frames.push(chunk, frame_state) for chunk in frames.split(7, dim=-1)]
    upsampled.append(from_frames.flush(frame_state))

    parts, start = [], 0
    for conditioning in upsampled:
        chunk = x[..., start : start + conditioning.shape[-1]]
        parts.append(from_samples.push(chunk, state, conditioning))
        start += conditioning.shape[-1]
    parts.append(from_samples.flush(state))

    found = torch.cat([as_tuple(part)[0] for part in parts], dim=-1)
    torch.testing.assert_close(found, stack(x, conditioner(frames)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_past_and_lookahead_are_what_an_output_depends_on(causal: bool) -> None:
    stack, middle = small_stack(causal=causal, kernel_size=(3, 2, 4)), 40
    x = torch.randn(1, 4, 81, requires_grad=True)

    stack(x)[..., middle].sum().backward()

    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1)).nonzero().flatten()
    stream = stack.stream()
    assert (middle - stream.past, middle + stream.lookahead) == (int(seen[0]), int(seen[-1]))


@pytest.mark.parametrize("chunk", [1, 5, 300])
def test_the_state_does_not_grow_with_the_signal(chunk: int) -> None:
    stack = small_stack(conditioning_channels=3)
    stream, conditioner = stack.stream(), LocalConditioner(2, 3, (2,), context_dilations=(1, 2))
    state, frames = stream.new_state(1), conditioner.stream()
    frame_state, sizes = frames.new_state(1), []

    for _ in range(60):
        stream.push(torch.randn(1, 4, chunk), state, torch.randn(1, 3, chunk))
        frames.push(torch.randn(1, 2, chunk), frame_state)
        sizes.append(state_bytes(state) + frame_state.frames.untyped_storage().nbytes())

    assert max(sizes[-30:]) == max(sizes[-60:])
    channels = 3 * 4 + 3 + 5  # of inputs, conditioning and skips
    assert max(sizes) < 4 * 4 * channels * (stream.past + stream.lookahead)


def test_a_copied_state_continues_on_its_own() -> None:
    stack, x = small_stack(), torch.randn(2, 4, 30)
    stream = stack.stream()
    state = stream.new_state(2)
    first = stream.push(x[..., :11], state)

    copied = copy.deepcopy(state)
    stream.push(torch.randn(2, 4, 9), state)
    rest = [stream.push(x[..., 11:], copied), stream.flush(copied)]

    found = torch.cat([as_tuple(part)[0] for part in (first, *rest)], dim=-1)
    torch.testing.assert_close(found, stack(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("autocast", [False, True])
def test_streams_compute_in_the_precision_of_forward(autocast: bool) -> None:
    stack, x = small_stack(), torch.randn(2, 4, 30)
    if not autocast:
        stack, x = stack.bfloat16(), x.bfloat16()

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.no_grad():
        expected = stack(x)
        (found,) = stream_stack(stack, {}, {"x": x}, [10, 1, 19])

    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


class ReluBlock(ResidualBlock):
    def activation(self, y: Tensor, projected: Tensor | None) -> Tensor:
        return super().activation(y, projected).relu()


def override_activation(stack: ResidualStack) -> None:
    stack.blocks[1].__class__ = ReluBlock


def replace_gate(stack: ResidualStack) -> None:
    assert isinstance(stack.blocks[1], ResidualBlock)
    stack.blocks[1].gate = lambda y: y[:, :3]


def hook_pointwise(stack: ResidualStack) -> None:
    part(stack, "1.skip_conv").register_forward_hook(lambda part, inputs, y: 2 * y)


def normalize_weights(stack: ResidualStack) -> None:
    for index in range(3):
        nn.utils.parametrizations.weight_norm(part(stack, f"{index}.conv"))


def widen_field(stack: ResidualStack) -> None:
    stack.blocks[2] = ResidualBlock(4, 6, 5, kernel_size=7, causal=False, last=True)


@pytest.mark.parametrize(
    "change", [override_activation, replace_gate, hook_pointwise, normalize_weights, widen_field]
)
def test_changes_that_keep_a_block_local_are_streamed(
    change: Callable[[ResidualStack], None],
) -> None:
    stack, x = small_stack(), torch.randn(2, 4, 40)
    change(stack)
    with torch.no_grad():
        expected = stack(x)

    (found,) = stream_stack(stack, {}, {"x": x}, [3, 0, 1, 36])

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


class OwnForward(ResidualBlock):
    def forward(self, x: Tensor, *inputs: Any, **others: Any) -> tuple[Tensor, Tensor | None]:
        return super().forward(x.flip(-1), *inputs, **others)


def override_forward(stack: ResidualStack) -> None:
    stack.blocks[1].__class__ = OwnForward


def hook_block(stack: ResidualStack) -> None:
    stack.blocks[0].register_forward_hook(lambda block, inputs, output: output)


def hook_conv(stack: ResidualStack) -> None:
    part(stack, "1.conv").register_forward_pre_hook(lambda part, inputs: inputs)


def replace_conv(stack: ResidualStack) -> None:
    stack.blocks[0].conv = nn.Conv1d(4, 6, 3, padding=1)


def change_dilation(stack: ResidualStack) -> None:
    part(stack, "2.conv").dilation = (3,)


def replace_pointwise(stack: ResidualStack) -> None:
    stack.blocks[0].skip_conv = nn.Conv1d(3, 5, 3, padding=1)


def wrap_pointwise(stack: ResidualStack) -> None:
    stack.blocks[0].residual_conv = nn.Sequential(part(stack, "0.residual_conv"))


def hook_stack(stack: ResidualStack) -> None:
    stack.register_forward_pre_hook(lambda stack, inputs: inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (override_forward, "blocks.1 is OwnForward, whose forward is not that of ResidualBlock"),
        (hook_block, "blocks.0 has forward hooks"),
        (hook_conv, "blocks.1.conv has forward pre hooks"),
        (replace_conv, "blocks.0.conv is Conv1d, not CausalConv1d"),
        (change_dilation, "blocks.2.conv has other options than SameConv1d gives it"),
        (replace_pointwise, "blocks.0.skip_conv must be a 1x1 convolution"),
        (wrap_pointwise, "blocks.0.residual_conv is Sequential, not Conv1d"),
        (hook_stack, "the stack has forward pre hooks"),
    ],
)
def test_other_changes_of_blocks_are_refused_by_name(
    change: Callable[[ResidualStack], None], message: str
) -> None:
    stack = small_stack()
    change(stack)

    with pytest.raises(ValueError, match=message):
        stack.stream()


@pytest.mark.parametrize(
    ("options", "constant", "signals", "message"),
    [
        ({}, {}, {"x": (2, 4)}, r"x must be \(2, 4, any length\), got \(2, 4\)"),
        ({}, {}, {"x": (1, 4, 9)}, r"x must be \(2, 4, any length\), got \(1, 4, 9\)"),
        ({}, {"conditioning": (2, 3, 1)}, {}, "conditioning must be left out"),
        ({}, {}, {"conditioning": (2, 3, 9)}, "conditioning must be left out"),
        ({"conditioning_channels": 3}, {}, {}, r"conditioning must be \(B, 3, T\), got none"),
        ({"conditioning_channels": 3}, {"conditioning": (2, 3, 9)}, {}, r"\(2, 3, 1\), got"),
        ({"conditioning_channels": 3}, {}, {"conditioning": (2, 3, 8)}, r"\(2, 3, 9\), got"),
        (
            {"conditioning_channels": 3},
            {},
            {"conditioning": (2, 3, 1)},
            "give what holds for all samples to new_state",
        ),
        (
            {"conditioning_channels": 3},
            {"conditioning": (2, 3, 1)},
            {"conditioning": (2, 3, 9)},
            "conditioning must be left out",
        ),
        ({"step_channels": 3}, {}, {}, r"step_embedding must be \(2, 3\), got none"),
        ({"film_channels": 3}, {}, {}, r"film must be \(B, 3, T\), got none"),
        ({"film_channels": 3}, {"film": (2, 3, 9)}, {}, r"film must be \(2, 3\), got"),
        ({}, {}, {"mask": (2, 2, 9)}, r"mask must be \(2, 1, 9\)"),
    ],
)
def test_inputs_of_a_stream_are_checked(
    options: dict[str, Any],
    constant: dict[str, tuple[int, ...]],
    signals: dict[str, tuple[int, ...]],
    message: str,
) -> None:
    stream = small_stack(**options).stream()
    of_all = {name: torch.zeros(shape) for name, shape in constant.items()}
    by_sample = {name: torch.zeros(shape) for name, shape in {"x": (2, 4, 9), **signals}.items()}

    with pytest.raises(ValueError, match=message):
        stream.push(state=stream.new_state(2, **of_all), **by_sample)


def test_a_mask_comes_with_every_chunk_or_with_none() -> None:
    stream = small_stack().stream()
    state = stream.new_state(1)
    stream.push(torch.zeros(1, 4, 2), state)

    with pytest.raises(ValueError, match="with every chunk or with none"):
        stream.push(torch.zeros(1, 4, 2), state, mask=torch.ones(1, 1, 2))


def test_a_mask_of_another_precision_is_converted() -> None:
    stack = small_stack()
    stream, x = stack.stream(), torch.randn(1, 4, 9)
    mask = (torch.arange(9) < 6).double().view(1, 1, 9)
    state = stream.new_state(1)

    outputs: list[Any] = [stream.push(x, state, mask=mask), stream.flush(state)]

    torch.testing.assert_close(torch.cat(outputs, dim=-1), stack(x, mask=mask))


def test_a_flushed_stream_takes_no_more() -> None:
    stream, frames = small_stack().stream(), LocalConditioner(2, 3, (2,)).stream()
    state, frame_state = stream.new_state(1), frames.new_state(1)
    stream.flush(state)
    frames.flush(frame_state)

    with pytest.raises(ValueError, match="was flushed"):
        stream.push(torch.zeros(1, 4, 2), state)
    with pytest.raises(ValueError, match="was flushed"):
        stream.flush(state)
    with pytest.raises(ValueError, match="was flushed"):
        frames.push(torch.zeros(1, 2, 2), frame_state)


def test_active_dropout_is_refused() -> None:
    stream = small_stack(dropout=0.5).train().stream()

    with pytest.raises(ValueError, match="blocks.0 drops values in training: call eval"):
        stream.push(torch.zeros(1, 4, 2), stream.new_state(1))


@pytest.mark.parametrize("upsample", sorted(UPSAMPLERS))
def test_a_stream_without_frames_is_empty(upsample: str) -> None:
    stream = LocalConditioner(2, 3, (2,), upsample, lookahead=1).stream()
    state = stream.new_state(4)

    assert stream.push(torch.zeros(4, 2, 0), state).shape == (4, 3, 0)
    assert stream.flush(state).shape == (4, 3, 0)


def small_stack(**options: Any) -> ResidualStack:
    torch.manual_seed(0)
    given = {"kernel_size": 3, "causal": False, **options}
    return ResidualStack((1, 2, 4), 4, 6, 5, **given).eval()


def part(stack: ResidualStack, name: str) -> nn.Conv1d:
    found = stack.blocks.get_submodule(name)
    assert isinstance(found, nn.Conv1d)
    return found


def state_bytes(state: StackState) -> int:
    """Memory of the tensors of a state."""
    buffers = [*state.inputs, *state.signals.values(), *([state.skips] if state.skips else [])]
    return sum(buffer.read(0, 0).untyped_storage().nbytes() for buffer in buffers)
