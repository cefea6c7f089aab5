"""Recordings that stream to disk as they are drawn, several at once, each as if it were alone."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.data.audio import WavWriter
from wavenet.distributions import SamplingConfig
from wavenet.features.filters import shaping_of
from wavenet.sampling import Sampler

CHUNK_SECONDS = 0.25


@dataclass(frozen=True)
class Work:
    """A recording to make.

    Attributes:
        output: Its file.
        seed: Of its noise.
        length: Samples to draw.
        local: Frames that condition it, `(1, C, F)`.
        prompt: Recording that it goes on from, `(T,)`, with which the file begins.
        heard: What the model hears of the prompt, `(T,)`.
    """

    output: Path
    seed: int
    length: int
    local: Tensor | None = None
    prompt: Tensor | None = None
    heard: Tensor | None = None


def speak(
    works: Sequence[Work],
    sampler: Sampler,
    audio: AudioConfig,
    draw: SamplingConfig,
    advance: Callable[[int], None],
    **voice: Any,
) -> None:
    """Make recordings side by side; each file is there, whole, as soon as its last sample is.

    What becomes of one depends on itself alone: not a bit on those beside it.

    Args:
        works: What to make, with prompts of one length.
        sampler: What draws.
        audio: Meaning of its signal.
        draw: Temperature and truncation.
        advance: Called with the samples drawn since the last call.
        **voice: Speaker and guidance, as a sampler's `start` takes them.
    """
    prompts = [work.heard for work in works if work.heard is not None]
    state = sampler.init_state(
        len(works),
        torch.stack(prompts) if prompts else None,
        [work.seed for work in works],
        local=side_by_side([work.local for work in works if work.local is not None]),
        **voice,
    )
    chunk = max(1, round(CHUNK_SECONDS * audio.sample_rate))
    with contextlib.ExitStack() as files:
        active = [_File(work, audio, files.enter_context(contextlib.ExitStack())) for work in works]
        while active:
            border = (state.num_generated // chunk + 1) * chunk
            stop = min(border, *(file.work.length for file in active))
            signal = sampler.generate_next(state, stop - state.num_generated, draw).cpu().float()
            for file, piece in zip(active, signal, strict=True):
                file.take(piece, whole=stop == border)
            advance(signal.numel())
            staying = [place for place, file in enumerate(active) if file.work.length > stop]
            if len(staying) < len(active):
                active = [active[place] for place in staying]
                state = state.select(staying) if active else state


class _File:
    """A recording that is being made.

    Args:
        work: What it is.
        audio: Meaning of the signal.
        stack: Closes the file.
    """

    def __init__(self, work: Work, audio: AudioConfig, stack: contextlib.ExitStack) -> None:
        self.work = work
        self.stack = stack
        self.writer = stack.enter_context(WavWriter(work.output, audio.sample_rate))
        self.undone = shaping_of(audio).undone()
        self.pieces: list[Tensor] = []  # of the chunk
        self.drawn = 0
        if work.prompt is not None and work.heard is not None:
            self.writer.write(work.prompt.numpy())
            self.undone(work.heard[None])

    def take(self, piece: Tensor, *, whole: bool) -> None:
        """Add a piece of the signal; `whole` where a chunk ends with it.

        A chunk is written as a whole, whoever came to an end within it: so what is undone comes in
        the same pieces as it does alone.
        """
        self.pieces.append(piece)
        self.drawn += len(piece)
        if whole or self.drawn == self.work.length:
            self.writer.write(self.undone(torch.cat(self.pieces)[None])[0].numpy())
            self.pieces = []
        if self.drawn == self.work.length:
            self.stack.close()


def side_by_side(frames: Sequence[Tensor]) -> Tensor | None:
    """Return frames, `(1, C, F)` each, as a batch; shorter ones go on with their last frame.

    That is what a model sees beyond the last frame of a signal by itself.
    """
    if not frames:
        return None
    longest = max(part.shape[-1] for part in frames)
    padded = [
        torch.cat([part, part[..., -1:].expand(-1, -1, longest - part.shape[-1])], dim=-1)
        for part in frames
    ]
    return torch.cat(padded)
