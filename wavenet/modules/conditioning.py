"""What conditions a signal: a speaker or a vector for all of it, frames of features for its parts.

A global condition is one vector an item. A local one starts as frames, `(B, C, F)`, of which frame
`f` covers samples `f * hop` to `(f + 1) * hop`, and becomes a vector a sample. Timing is strict:
a sample sees its own frame, frames before it and, by choice, a few after it, and no others.

WaveNet, sections 2.5 and 2.6; nearest upsampling with a learnt smoothing kernel is WaveNet
vocoders' (Odena et al. 2016 for images).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules.residual import ResidualStack
from wavenet.modules.upsampling import UPSAMPLERS, Upsampler

NULL_SPEAKER = -1  # speaker whom nobody named


class GlobalConditioner(nn.Module):
    """Embedding of a speaker, of a vector, or of both: their sum.

    In training, items are made unknown at random, so that the model also learns what it can say
    without them: for voices that it does not know, and for guidance.

    Args:
        channels: Width of the output.
        speaker_embedding: Speakers with a number; 0 for none.
        vector_channels: Width of the vector; 0 for none.
        unknown_rate: Probability that a training item is made unknown.

    Shape:
        - Input: speakers `(B,)`, int64 from 0, or `NULL_SPEAKER`; vectors `(B, vector_channels)`
        - Output: `(B, channels)`
    """

    def __init__(
        self,
        channels: int,
        speakers: int = 0,
        vector_channels: int = 0,
        *,
        conditioning_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.conditioning_dropout = conditioning_dropout
        self.speaker_embedding = (
            nn.Embedding(speakers + 1, channels) if speakers else None
        )  # unknown last
        self.vector = nn.Linear(vector_channels, channels) if vector_channels else None
        self.null_vector = nn.Parameter(torch.zeros(channels)) if vector_channels else None

    def forward(self, speaker: Tensor | None, vector: Tensor | None, batch_size: int) -> Tensor:
        """Return the condition of each item; what is absent is unknown.

        Raises:
            ValueError: A speaker or vector is none of this model's.
        """
        parts = []
        known = self._kept(batch_size)
        if self.speaker_embedding is not None:
            parts.append(self.speaker_embedding(self._numbers(speaker, known, batch_size)))
        elif speaker is not None:
            raise ValueError("the model has no speakers, but speaker was given")
        if self.vector is not None and self.null_vector is not None:
            absent = self.null_vector.expand(batch_size, -1)
            if vector is None:
                parts.append(absent)
            else:
                if vector.shape != (batch_size, self.vector.in_features):
                    wanted = (batch_size, self.vector.in_features)
                    raise ValueError(f"vector must be {wanted}, got {tuple(vector.shape)}")
                parts.append(torch.where(known.unsqueeze(1), self.vector(vector), absent))
        elif vector is not None:
            raise ValueError("the model takes no vectors, but vector was given")
        return torch.stack(parts).sum(dim=0)

    def _kept(self, batch_size: int) -> Tensor:
        device = next(self.parameters()).device
        if self.training and self.conditioning_dropout:
            return torch.rand(batch_size, device=device) >= self.conditioning_dropout
        return torch.ones(batch_size, dtype=torch.bool, device=device)

    def _numbers(self, speaker: Tensor | None, known: Tensor, batch_size: int) -> Tensor:
        assert self.speaker_embedding is not None
        last = self.speaker_embedding.num_embeddings - 1
        if speaker is None:
            return torch.full((batch_size,), last, device=known.device)
        if speaker.shape != (batch_size,):
            raise ValueError(f"speaker must be ({batch_size},), got {tuple(speaker.shape)}")
        if not bool(((speaker >= NULL_SPEAKER) & (speaker < last)).all()):
            raise ValueError(
                f"speakers are 0 to {last - 1}, or {NULL_SPEAKER} for unknown: {speaker}"
            )
        return torch.where(known & (speaker != NULL_SPEAKER), speaker, last)


class LocalConditioner(nn.Module):
    """Frames of features to a condition for every sample.

    A convolution over frames, a context stack if asked for, then upsampling factor by factor. All
    of it looks back; `lookahead` frames of the future enter at the first convolution alone.

    Args:
        in_channels: Numbers in a frame.
        channels: Width of the output.
        scales: Factors by which the rate rises; their product is the hop.
        upsampling: `nearest`, `transposed` or `repeat`.
        kernel_size: Frames that the first convolution sees, its own and those before.
        lookahead: Frames after it that it sees too.
        context_dilations: Of the context stack; empty for none.

    Attributes:
        hop_length: Samples from one frame to the next.
        past: Frames before a sample's own that it depends on, at most.
        lookahead: Frames after it.

    Shape:
        - Input: `(B, in_channels, F)`
        - Output: `(B, channels, F * hop_length)`
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        scales: Sequence[int],
        upsampling: str = "nearest",
        *,
        kernel_size: int = 1,
        lookahead: int = 0,
        context_dilations: Sequence[int] = (),
    ) -> None:
        super().__init__()
        kind = UPSAMPLERS[upsampling]
        self.hop_length = math.prod(scales)
        self.lookahead = lookahead
        self.conv_in = nn.Conv1d(in_channels, channels, kernel_size + lookahead)
        self.context = None
        if context_dilations:
            self.context = ResidualStack(context_dilations, channels, 2 * channels, channels)
        stages: list[Upsampler] = [kind(channels, scale) for scale in scales]
        self.upsampling = nn.ModuleList(stages)
        reach = 0
        for stage in reversed(stages):  # in samples of the stage's input
            reach = stage.past + -(-reach // stage.scale)
        self.past = reach + sum(context_dilations) + kernel_size - 1

    def forward(self, frames: Tensor) -> Tensor:
        """Return the condition of every sample; beyond its ends the signal's frames go on alike."""
        return self.window(F.pad(frames, (self.past, self.lookahead), mode="replicate"))

    def window(self, frames: Tensor) -> Tensor:
        """Return the condition of the samples of some frames, given what lies around them.

        Shape:
            - Input: `(B, in_channels, past + F + lookahead)`
            - Output: `(B, channels, F * hop_length)`
        """
        length = (frames.shape[-1] - self.past - self.lookahead) * self.hop_length
        x: Tensor = self.conv_in(frames)
        if self.context is not None:
            x = x + self.context(x)
        for stage in self.upsampling:
            x = stage(x)
        return x[..., x.shape[-1] - length :]
