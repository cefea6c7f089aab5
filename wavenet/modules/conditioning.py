"""Conditioning of a signal: a speaker or a vector for all of it, frames of features for its parts.

Global conditioning is one vector per item. Local conditioning starts as frames, `(B, C, F)`, of
which frame `f` covers samples `[f * hop, (f + 1) * hop)`, and becomes a vector per sample. A sample
depends on its own frame, on frames before it and, with `lookahead` or centered upsampling, on a few
after it.

WaveNet, sections 2.5 and 2.6.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules.checks import (
    check_chunk,
    check_probability,
    check_sizes,
    one_of,
    whole_numbers,
)
from wavenet.modules.fusable import is_transformed
from wavenet.modules.residual_stack import ResidualStack
from wavenet.modules.upsampling import UPSAMPLERS, build_upsample
from wavenet.utils.data_identity import NULL_SPEAKER


class GlobalConditioner(nn.Module):
    """Embedding of a speaker, projection of a vector, or the sum of both.

    In training, the speaker and vector of random items are replaced by null ones, so that the model
    also learns to do without them: for unknown voices, and for classifier-free guidance. WaveNet,
    section 2.5 (arXiv:1609.03499); Ho and Salimans 2022 (arXiv:2207.12598).

    Args:
        channels: Width of the output.
        num_speakers: Number of speakers; 0 for none.
        vector_channels: Width of the vector; 0 for none.
        conditioning_dropout: Probability, 0 to 1, that a training item loses speaker and vector.

    Shape:
        - Input: speakers `(B,)`, int64 from 0, or `NULL_SPEAKER`, which may be on the CPU, where
          a GPU does not wait for their check; vectors `(B, vector_channels)`
        - Output: `(B, channels)`

    Raises:
        ValueError: Neither speakers nor vectors, or a size or probability out of its range; inputs
            that are unused, misshaped or unknown.
    """

    def __init__(
        self,
        channels: int,
        num_speakers: int = 0,
        vector_channels: int = 0,
        *,
        conditioning_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes(1, channels=channels)
        check_sizes(0, num_speakers=num_speakers, vector_channels=vector_channels)
        check_probability("conditioning_dropout", conditioning_dropout)
        if not (num_speakers or vector_channels):
            raise ValueError("num_speakers or vector_channels must be positive, got 0 and 0")
        self.conditioning_dropout = conditioning_dropout
        self.speaker_embedding = None
        if num_speakers:
            self.speaker_embedding = nn.Embedding(num_speakers + 1, channels)  # null speaker last
        self.vector_projection = nn.Linear(vector_channels, channels) if vector_channels else None
        self.null_vector = nn.Parameter(torch.zeros(channels)) if vector_channels else None

    def forward(self, speaker: Tensor | None, vector: Tensor | None, batch_size: int) -> Tensor:
        """Return the conditioning of each item; an absent speaker or vector counts as null."""
        parts = []
        keep = self._keep_mask(batch_size)
        if self.speaker_embedding is not None:
            parts.append(self.speaker_embedding(self._rows(speaker, keep, batch_size)))
        elif speaker is not None:
            raise ValueError("the model has no speakers, but speaker was given")
        if self.vector_projection is not None and self.null_vector is not None:
            null = self.null_vector.expand(batch_size, -1)
            wanted = (batch_size, self.vector_projection.in_features)
            if vector is None:
                parts.append(null)
            elif vector.shape != wanted:
                raise ValueError(f"vector must be {wanted}, got {tuple(vector.shape)}")
            else:
                parts.append(torch.where(keep.unsqueeze(1), self.vector_projection(vector), null))
        elif vector is not None:
            raise ValueError("the model takes no vectors, but vector was given")
        return torch.stack(parts).sum(dim=0)

    def _keep_mask(self, batch_size: int) -> Tensor:
        """Return which items keep their speaker and vector, `(B,)`."""
        table = (
            self.null_vector if self.speaker_embedding is None else self.speaker_embedding.weight
        )
        device = None if table is None else table.device
        if self.training and self.conditioning_dropout:
            return torch.rand(batch_size, device=device) >= self.conditioning_dropout
        return torch.ones(batch_size, dtype=torch.bool, device=device)

    def _rows(self, speaker: Tensor | None, keep: Tensor, batch_size: int) -> Tensor:
        """Return each item's row of the embedding, `(B,)`."""
        assert self.speaker_embedding is not None
        null = self.speaker_embedding.num_embeddings - 1
        if speaker is None:
            return torch.full((batch_size,), null, device=keep.device)
        if speaker.shape != (batch_size,):
            raise ValueError(f"speaker must be ({batch_size},), got {tuple(speaker.shape)}")
        if speaker.is_floating_point():
            raise ValueError(f"speaker must be integers, got {speaker.dtype}")
        speaker = speaker.long()  # PyTorch compares no unsigned ones
        known = (speaker >= NULL_SPEAKER) & (speaker < null)
        if not (is_transformed(speaker) or bool(known.all())):
            raise ValueError(
                f"speakers are 0 to {null - 1}, or {NULL_SPEAKER} for the null speaker: {speaker}"
            )
        if speaker.device != keep.device:
            speaker = speaker.to(keep.device, non_blocking=keep.device.type == "cuda")
        return torch.where(keep & (speaker != NULL_SPEAKER), speaker, null)


class LocalConditioner(nn.Module):
    """From frames of features to the conditioning of every sample.

    A convolution over frames, an optional context stack, then upsampling by one factor after the
    other. All of it looks back, except that the first convolution sees `lookahead` future frames,
    and each stage of `centered` upsampling one frame of its input.
    WaveNet, section 2.5 (arXiv:1609.03499).

    Args:
        in_channels: Width of a frame.
        channels: Width of the output.
        upsample_scales: Factors by which the rate rises, 1 or more; their product is the hop.
        upsample: A name in `wavenet.modules.upsampling`: `nearest`, `centered`, `transposed`,
            `shared`, `bands` or `repeat`.
        kernel_size: Frames that the first convolution sees, its own and those before; 1 or more.
        lookahead: Frames after its own that it sees too, 0 or more.
        context_dilations: Of the context stack; empty for none.
        upsample_frames: Of `transposed`: input frames that an output of a stage sees, 1 or more.
        freq_axis_kernel_size: Of `bands`: channels that an output of a stage sees, odd.

    Attributes:
        hop_length: Samples from one frame to the next.
        past: Frames before a sample's own that it depends on, at most.
        lookahead: Frames after its own that it depends on, at most: the argument, and those that
            the upsampling sees.

    Shape:
        - Input: `(B, in_channels, F)`
        - Output: `(B, channels, F * hop_length)`

    Raises:
        ValueError: An option is out of its range; frames of another shape.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        upsample_scales: Sequence[int],
        upsample: str = "nearest",
        *,
        kernel_size: int = 1,
        lookahead: int = 0,
        context_dilations: Sequence[int] = (),
        upsample_frames: int = 2,
        freq_axis_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if upsample not in UPSAMPLERS:
            raise ValueError(f"upsample must be {one_of(UPSAMPLERS)}, got {upsample!r}")
        check_sizes(1, in_channels=in_channels, channels=channels, kernel_size=kernel_size)
        check_sizes(0, lookahead=lookahead)
        upsample_scales = whole_numbers("upsample_scales", upsample_scales, least=1)
        self.hop_length = math.prod(upsample_scales)
        self.conv_in = nn.Conv1d(in_channels, channels, kernel_size + lookahead)
        self.context = None
        if context_dilations:
            self.context = ResidualStack(context_dilations, channels, 2 * channels, channels)
        stages = [
            build_upsample(
                upsample,
                channels,
                scale,
                upsample_frames=upsample_frames,
                freq_axis_kernel_size=freq_axis_kernel_size,
            )
            for scale in upsample_scales
        ]
        self.upsampling = nn.ModuleList(stages)
        past = future = 0
        for stage in reversed(stages):  # in samples of the stage's input
            past = stage.past + -(-past // stage.scale)
            future = stage.future + -(-future // stage.scale)
        self.past = past + sum(context_dilations) + kernel_size - 1
        self.lookahead = lookahead + future
        self._samples_after = future * self.hop_length  # that `window` cuts off

    def forward(self, frames: Tensor) -> Tensor:
        """Return the conditioning of every sample; the first and last frame continue outwards."""
        return self.window(F.pad(frames, (self.past, self.lookahead), mode="replicate"))

    def window(self, frames: Tensor) -> Tensor:
        """Return the conditioning of the samples of some frames, given the frames around them.

        Shape:
            - Input: `(B, in_channels, past + F + lookahead)`
            - Output: `(B, channels, F * hop_length)`
        """
        if frames.dim() != 3 or frames.shape[1] != self.conv_in.in_channels:
            wanted = f"(B, {self.conv_in.in_channels}, F)"
            raise ValueError(f"frames must be {wanted}, got {tuple(frames.shape)}")
        length = (frames.shape[-1] - self.past - self.lookahead) * self.hop_length
        x: Tensor = self.conv_in(frames)
        if self.context is not None:
            x = x + self.context(x)
        for stage in self.upsampling:
            x = stage(x)
        stop = x.shape[-1] - self._samples_after
        return x[..., stop - length : stop]

    def stream(self) -> "FrameStream":
        """Return what computes the conditioning chunk by chunk."""
        return FrameStream(self)


@dataclass
class FrameState:
    """State of a `FrameStream`; `push` and `flush` change it.

    Attributes:
        frames: Frames that are still needed, `(B, in_channels, F)`.
        flushed: Whether the frames have ended.
    """

    frames: Tensor
    flushed: bool = False


class FrameStream:
    """Computes a `LocalConditioner` chunk by chunk, such as for the chunks of a `StackStream`.

    The outputs of `push` for all chunks and of `flush`, concatenated, equal `forward` of all
    frames, up to rounding. A chunk may have any length; each costs `past` frames more than its own.
    The memory does not grow with the number of frames. Outputs have no gradients.

    Attributes:
        past: Frames before its own that a sample depends on, at most.
        lookahead: Frames after its own that a sample depends on, by which outputs are delayed.
    """

    def __init__(self, conditioner: LocalConditioner) -> None:
        self._conditioner = conditioner
        self.past = conditioner.past
        self.lookahead = conditioner.lookahead

    def new_state(self, batch_size: int) -> FrameState:
        """Return the state before the first frame of `batch_size` signals."""
        weight = self._conditioner.conv_in.weight
        return FrameState(weight.new_zeros(batch_size, weight.shape[1], 0))

    @torch.no_grad()
    def push(self, frames: Tensor, state: FrameState) -> Tensor:
        """Return the conditioning that becomes final with the next frames, `(B, channels, T)`.

        Args:
            frames: The next frames, `(B, in_channels, F)`.
            state: From `new_state`.

        Raises:
            ValueError: `frames` has another shape, or the stream was flushed.
        """
        check_chunk("frames", frames, state.frames, state.flushed)
        if not state.frames.shape[-1]:  # none has come yet, or none is needed
            frames = torch.cat([frames[..., :1].repeat(1, 1, self.past), frames], dim=-1)
        return self._advance(frames, state)

    @torch.no_grad()
    def flush(self, state: FrameState) -> Tensor:
        """Return the conditioning that is left, of at most `lookahead` frames."""
        check_chunk("frames", state.frames, state.frames, state.flushed)
        state.flushed = True
        return self._advance(state.frames[..., -1:].repeat(1, 1, self.lookahead), state)

    def _advance(self, frames: Tensor, state: FrameState) -> Tensor:
        frames = torch.cat([state.frames, frames], dim=-1)
        final = max(0, frames.shape[-1] - self.past - self.lookahead)
        state.frames = frames[..., final:].clone()
        if not final:
            channels = self._conditioner.conv_in.out_channels
            return frames.new_zeros(len(frames), channels, 0)
        return self._conditioner.window(frames)
