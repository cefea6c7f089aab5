"""Generate WAV files in chunks: several at once, each bit for bit as if it were generated alone."""

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
from wavenet.features.filters import build_filter
from wavenet.generation.inputs import Prompt
from wavenet.sampling import Sampler

CHUNK_SECONDS = 0.25


@dataclass(frozen=True)
class WavJob:
    """A WAV file to generate.

    Attributes:
        output: The file.
        seed: Of the noise.
        length: Samples to generate.
        frames: Local conditioning, prompt included, `(1, C, F)`.
        prompt: Recording at the start of the file, which is continued.
    """

    output: Path
    seed: int
    length: int
    frames: Tensor | None = None
    prompt: Prompt | None = None


def generate_wavs(
    jobs: Sequence[WavJob],
    sampler: Sampler,
    audio: AudioConfig,
    sampling: SamplingConfig,
    advance: Callable[[int], None],
    **conditioning: Any,
) -> None:
    """Generate WAV files as one batch; each appears, complete, as soon as its last sample exists.

    Args:
        jobs: What to generate; their prompts have the same length.
        sampler: Generates the signals.
        audio: Meaning of the signals.
        sampling: Temperature and truncation.
        advance: Called with the number of new samples after each chunk.
        **conditioning: Speaker and guidance, as `Sampler.init_state` takes them.
    """
    prompts = [job.prompt.filtered for job in jobs if job.prompt is not None]
    state = sampler.init_state(
        len(jobs),
        torch.stack(prompts) if prompts else None,
        [job.seed for job in jobs],
        local=pad_frames([job.frames for job in jobs if job.frames is not None]),
        **conditioning,
    )
    chunk = max(1, round(CHUNK_SECONDS * audio.sample_rate))
    with contextlib.ExitStack() as stack:
        files = [_WavFile(job, audio, stack.enter_context(contextlib.ExitStack())) for job in jobs]
        while files:
            chunk_end = (state.num_generated // chunk + 1) * chunk
            stop = min(chunk_end, *(file.job.length for file in files))
            signal = sampler.generate_next(state, stop - state.num_generated, sampling)
            for file, samples in zip(files, signal.cpu().float(), strict=True):
                file.write(samples, chunk_ends=stop == chunk_end)
            advance(signal.numel())
            unfinished = [row for row, file in enumerate(files) if file.job.length > stop]
            if len(unfinished) < len(files):
                files = [files[row] for row in unfinished]
                state = state.select(unfinished) if files else state


class _WavFile:
    """A file that is being generated; closes `stack` after its last sample."""

    def __init__(self, job: WavJob, audio: AudioConfig, stack: contextlib.ExitStack) -> None:
        self.job = job
        self.stack = stack
        self.writer = stack.enter_context(WavWriter(job.output, audio.sample_rate))
        self.invert_filter = build_filter(audio).inverse()
        self.chunk: list[Tensor] = []
        self.num_generated = 0
        if job.prompt is not None:
            self.writer.write(job.prompt.recording.numpy())
            self.invert_filter(job.prompt.filtered[None])

    def write(self, samples: Tensor, *, chunk_ends: bool) -> None:
        """Append samples.

        They are filtered and written in complete chunks, even if other files of the batch end
        within a chunk: rounding of the filter depends on where the chunks are cut.
        """
        self.chunk.append(samples)
        self.num_generated += len(samples)
        complete = self.num_generated == self.job.length
        if chunk_ends or complete:
            signal = self.invert_filter(torch.cat(self.chunk)[None])[0]
            self.writer.write(signal.numpy())
            self.chunk = []
        if complete:
            self.stack.close()


def pad_frames(frames: Sequence[Tensor]) -> Tensor | None:
    """Return frames, `(1, C, F)` each, as one batch; shorter ones repeat their last frame.

    A model sees the same beyond the last frame of a signal that is generated alone.
    """
    if not frames:
        return None
    longest = max(part.shape[-1] for part in frames)
    padded = [
        torch.cat([part, part[..., -1:].expand(-1, -1, longest - part.shape[-1])], dim=-1)
        for part in frames
    ]
    return torch.cat(padded)
