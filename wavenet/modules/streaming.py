"""Exact inference of a stack in chunks, also of one that looks ahead.

An output is final once the samples that it looks ahead to have come, so a stream returns the final
outputs of each chunk and, from `flush`, the rest. Concatenated, they are the output of `forward`.
Each block keeps the inputs that its next outputs need; conditioning, masks and the sum of the skips
wait for the last block. The zeros before and after the signal are added at the convolution of each
block, as in `forward`; zeros around the input of the stack would give other outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from wavenet.modules.checks import check_chunk, check_dtype, check_signal, check_vector
from wavenet.modules.conv import CausalConv1d, SameConv1d
from wavenet.modules.residual_block import ResidualBlock, conv1x1
from wavenet.modules.standard import kind, overridden_call

Combine = Callable[[Tensor, Tensor | None], Tensor | tuple[Tensor, Tensor]]

POINTWISE = ("conditioning_conv", "film_conv", "residual_conv", "shortcut_conv", "skip_conv")


class Buffer:
    """The samples of a signal, `(B, C, T)`, that are still needed.

    The memory has room for as many more samples, so that each sample is moved once or twice,
    however short the chunks are.

    Args:
        samples: The first samples, numbered from 0.

    Attributes:
        start: Number of the first sample that is still there.
        stop: Number of the sample that comes next.
    """

    def __init__(self, samples: Tensor) -> None:
        self.start, self.stop = 0, samples.shape[-1]
        self._memory = samples
        self._offset = 0  # sample `t` is at `t - offset`

    def append(self, samples: Tensor) -> None:
        """Add the samples that come next."""
        stop = self.stop + samples.shape[-1]
        if stop - self._offset > self._memory.shape[-1]:
            kept = self.read(self.start, self.stop)
            room = samples.new_empty(*kept.shape[:2], stop - self.start + kept.shape[-1])
            room[..., : kept.shape[-1]] = kept
            self._memory, self._offset = room, self.start
        self._memory[..., self.stop - self._offset : stop - self._offset] = samples
        self.stop = stop

    def read(self, start: int, stop: int) -> Tensor:
        """Return a view of samples `start` to `stop`."""
        return self._memory[..., start - self._offset : stop - self._offset]

    def drop_before(self, start: int) -> None:
        """Free the samples before `start`."""
        self.start = start
        if self._memory.shape[-1] > 4 * (self.stop - start):  # after a long chunk
            self._memory, self._offset = self.read(start, self.stop).clone(), start


@dataclass
class StackState:
    """State of a `StackStream`; `push` and `flush` change it.

    Attributes:
        inputs: Input of each block.
        positions: Number of samples that each block has put out.
        skips: Sum of the skips of the blocks so far; `None` for a stack without skips.
        constant: By name, what holds for all samples.
        signals: By name, what comes sample by sample.
        flushed: Whether the signal has ended.
    """

    inputs: list[Buffer]
    positions: list[int]
    skips: Buffer | None
    constant: dict[str, Tensor]
    signals: dict[str, Buffer] = field(default_factory=dict)
    flushed: bool = False


class StackStream:
    """Computes a `ResidualStack` chunk by chunk; `ResidualStack.stream` makes it.

    With `stream = stack.stream()` and `state = stream.new_state(batch_size)`, the outputs of
    `stream.push(chunk, state)` for all chunks and of `stream.flush(state)`, concatenated, equal
    those of `stack`, up to rounding. A chunk may have any length, 0 and 1 too. The memory does not
    grow with the length of the signal. Outputs have no gradients.

    Attributes:
        past: Samples before its own that an output depends on.
        lookahead: Samples after its own that an output depends on, by which outputs are delayed.
    """

    def __init__(
        self,
        blocks: Sequence[ResidualBlock],
        conditioning_conv: nn.Conv1d | None,
        combine: Combine,
    ) -> None:
        for index, block in enumerate(blocks):
            _check_block(f"blocks.{index}", block)
        _check_pointwise("conditioning_conv", conditioning_conv)
        self._blocks = blocks
        self._conditioning_conv = conditioning_conv
        self._combine = combine
        self.past = sum(block.conv.sides[0] for block in blocks)
        self.lookahead = sum(block.conv.sides[1] for block in blocks)

    @torch.no_grad()
    def new_state(
        self,
        batch_size: int,
        *,
        conditioning: Tensor | None = None,
        step_embedding: Tensor | None = None,
        film: Tensor | None = None,
    ) -> StackState:
        """Return the state before the first sample, with what holds for all samples.

        Args:
            batch_size: Number of signals, `B`.
            conditioning: `(B, conditioning_channels, 1)`, or by chunk, to `push`.
            step_embedding: `(B, step_channels)`.
            film: `(B, film_channels)`, or by chunk, to `push`.

        Raises:
            ValueError: An input is missing, unused, or of another shape.
        """
        block, weight = self._blocks[0], self._blocks[0].conv.weight
        like = weight.new_zeros(batch_size, block.conv.in_channels, 1)
        linear = block.step_projection
        check_vector(
            "step_embedding", step_embedding, None if linear is None else linear.in_features, like
        )
        given = {"conditioning": conditioning, "step_embedding": step_embedding, "film": film}
        constant = {name: value for name, value in given.items() if value is not None}
        if film is not None:
            check_vector("film", film, self._channels("film"), like)
        if conditioning is not None:
            check_signal("conditioning", conditioning, self._channels("conditioning"), like)
            constant["conditioning"] = self._project(conditioning)
        skip_channels = [block.skip_conv.out_channels for block in self._blocks if block.skip_conv]
        widths = [block.conv.in_channels for block in self._blocks] + skip_channels[:1]
        buffers = [Buffer(like.new_zeros(batch_size, width, 0)) for width in widths]
        skips = buffers.pop() if skip_channels else None
        return StackState(buffers, [0] * len(buffers), skips, constant)

    @torch.no_grad()
    def push(
        self,
        x: Tensor,
        state: StackState,
        conditioning: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        film: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the outputs that become final with the next samples, in the form of `forward`.

        Args:
            x: The next samples, `(B, in_channels, T)`.
            state: From `new_state`.
            conditioning: Of these samples, `(B, conditioning_channels, T)`.
            mask: Of these samples, `(B, 1, T)`; with every chunk or with none.
            film: Of these samples, `(B, film_channels, T)`.

        Raises:
            ValueError: An input is missing, unused, or of another shape; the stream was flushed; a
                block drops values in training.
        """
        self._check_chunk(x, state)
        signals = self._check_signals(
            x, state, {"conditioning": conditioning, "mask": mask, "film": film}
        )
        if "mask" in signals:
            signals["mask"] = signals["mask"].to(x.dtype)
        if x.shape[-1]:  # no convolution takes an empty signal
            if "conditioning" in signals:
                signals["conditioning"] = self._project(signals["conditioning"])
            for name, signal in signals.items():
                state.signals.setdefault(name, Buffer(signal[..., :0])).append(signal)
        return self._advance(x, state)

    @torch.no_grad()
    def flush(self, state: StackState) -> Tensor | tuple[Tensor, Tensor]:
        """Return the outputs that are left, at most `lookahead`; the signal ends here."""
        stop = state.inputs[0].stop
        nothing = state.inputs[0].read(stop, stop)
        self._check_chunk(nothing, state)
        state.flushed = True
        return self._advance(nothing, state)

    def _advance(self, x: Tensor, state: StackState) -> Tensor | tuple[Tensor, Tensor]:
        """Return what becomes final with the next inputs of the first block."""
        start = state.positions[-1]
        for index in range(len(self._blocks)):
            x = self._advance_block(index, x, state)
        stop, waiting = state.positions[-1], list(state.signals.values())
        skips = None
        if state.skips is not None:
            skips = state.skips.read(start, stop)
            waiting.append(state.skips)
            if "mask" in state.signals:
                skips = skips * state.signals["mask"].read(start, stop)
        output = self._combine(x, skips)
        for buffer in waiting:
            buffer.drop_before(stop)
        return output

    def _advance_block(self, index: int, x: Tensor, state: StackState) -> Tensor:
        """Return the residual outputs that become final with the next inputs of a block."""
        block, inputs, start = self._blocks[index], state.inputs[index], state.positions[index]
        before, after = block.conv.sides
        inputs.append(x)
        stop = inputs.stop if state.flushed else inputs.stop - after
        if stop <= start:
            conv = block.residual_conv
            return x[:, :1, :0].expand(-1, conv.out_channels if conv else x.shape[1], -1)
        first = max(0, start - before)
        x, skip = block.forward_window(
            inputs.read(first, inputs.stop),
            (before - (start - first), after if state.flushed else 0),
            **self._inputs_of(index, start, stop, state),
        )
        inputs.drop_before(max(0, stop - before))
        state.positions[index] = stop
        if skip is not None and state.skips is not None:
            if state.skips.stop == start:
                state.skips.append(skip)
            else:
                state.skips.read(start, stop).add_(skip)
        return x

    def _inputs_of(self, index: int, start: int, stop: int, state: StackState) -> dict[str, Tensor]:
        """Return by name what a block needs besides its input for samples `start` to `stop`."""
        signals = {name: signal.read(start, stop) for name, signal in state.signals.items()}
        found = {**state.constant, **signals}
        if self._conditioning_conv is not None:
            projected = found.pop("conditioning").chunk(len(self._blocks), dim=1)
            found["projected"] = projected[index]
        return found

    def _project(self, conditioning: Tensor) -> Tensor:
        conv = self._conditioning_conv
        return conditioning if conv is None else conv1x1(conv, conditioning)

    def _channels(self, name: str) -> int | None:
        """Return the width of `conditioning` or `film`; `None` if the stack takes none."""
        shared = self._conditioning_conv if name == "conditioning" else None
        conv = shared or getattr(self._blocks[0], f"{name}_conv")
        return None if conv is None else int(conv.in_channels)

    def _check_chunk(self, x: Tensor, state: StackState) -> None:
        stop = state.inputs[0].stop
        check_chunk("x", x, state.inputs[0].read(stop, stop), state.flushed)
        check_dtype(x, self._blocks[0].conv, "x")
        for index, block in enumerate(self._blocks):
            if block.dropout.training and block.dropout.p:
                raise ValueError(f"blocks.{index} drops values in training: call eval() to stream")

    def _check_signals(
        self, x: Tensor, state: StackState, given: dict[str, Tensor | None]
    ) -> dict[str, Tensor]:
        """Return by name what was given with a chunk."""
        signals = {name: signal for name, signal in given.items() if signal is not None}
        if state.inputs[0].stop and ("mask" in signals) != ("mask" in state.signals):
            raise ValueError("mask must be given with every chunk or with none")
        widths = {name: self._channels(name) for name in ("conditioning", "film")}
        for name, channels in (*widths.items(), ("mask", 1 if "mask" in signals else None)):
            check_signal(name, given[name], None if name in state.constant else channels, x)
            if name in signals and signals[name].shape[-1] != x.shape[-1]:
                raise ValueError(
                    f"{name} must be {(len(x), channels, x.shape[-1])}, got "
                    f"{tuple(signals[name].shape)}: give what holds for all samples to new_state"
                )
        return signals


def check_forward(name: str, module: nn.Module, standard: type[nn.Module]) -> None:
    """Raise unless a call of a module is the `forward` of a class that it derives from."""
    difference, found = overridden_call(module), cast(Any, type_before_parametrizations(module))
    if found.forward is not standard.forward:
        difference = f"is {kind(module)}, whose forward is not that of {standard.__name__}"
    if difference is not None:
        raise ValueError(f"{name} {difference}, so it has no stream: call forward on all samples")


def _check_block(name: str, block: ResidualBlock) -> None:
    """Raise unless the outputs of a block depend on the samples that its convolution sees alone."""
    check_forward(name, block, ResidualBlock)
    conv = block.conv
    standard = SameConv1d if type_before_parametrizations(conv) is SameConv1d else CausalConv1d
    _check_type(f"{name}.conv", conv, standard)
    check_forward(f"{name}.conv", conv, standard)
    memory = (conv.kernel_size[0] - 1) * conv.dilation[0]
    options = (conv.stride, conv.padding, conv.padding_mode, sum(conv.sides))
    if options != ((1,), (0,), "zeros", memory):
        raise ValueError(f"{name}.conv has other options than {standard.__name__} gives it: {conv}")
    _check_type(f"{name}.dropout", block.dropout, nn.Dropout)
    for part in POINTWISE:
        _check_pointwise(f"{name}.{part}", getattr(block, part))


def _check_pointwise(name: str, conv: nn.Conv1d | None) -> None:
    """Raise unless a convolution computes each sample by itself."""
    if conv is None:
        return
    _check_type(name, conv, nn.Conv1d)
    if (conv.kernel_size, conv.stride, conv.padding) != ((1,), (1,), (0,)):
        raise ValueError(f"{name} must be a 1x1 convolution, got {conv}")


def _check_type(name: str, module: nn.Module, standard: type[nn.Module]) -> None:
    if type_before_parametrizations(module) is not standard:
        raise ValueError(
            f"{name} is {kind(module)}, not {standard.__name__}, so it has no stream: call forward "
            "on all samples"
        )
