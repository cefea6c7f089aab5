"""What conditions a batch while it is generated, in constant memory however long the signal.

Frames may all be there from the start or arrive in pieces. They are turned into the condition of
every sample a window at a time: always the same number of frames, at the same places of the signal,
an item by itself. So the numbers do not depend on the batch, nor on how frames arrived or samples
are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.model import WaveNet

WINDOW = 512  # samples, about


@dataclass
class ConditioningBuffer:
    """Conditions of a batch of streams.

    Attributes:
        global_conditioning: Of each stream's whole signal, `(streams, C)`; absent where nothing conditions it.
        frames: Frames that are still needed, `(B, C, F)`; absent for a model without local ones.
        first_frame: Number of the first of them.
        expects_more: Whether further frames may come.
        window: Condition of the samples of the last window, `(B, C, T)`.
        window_number: Which window that was; -1 for none.
    """

    global_conditioning: Tensor | None = None
    frames: Tensor | None = None
    first_frame: int = 0
    expects_more: bool = False
    window: Tensor | None = field(default=None, repr=False)
    window_number: int = -1

    def clone(self) -> "ConditioningBuffer":
        """Return a copy that goes on by itself; tensors are never changed in place."""
        return ConditioningBuffer(
            self.global_conditioning, self.frames, self.first_frame, self.expects_more
        )

    def select(self, items: Sequence[int], streams: Sequence[int]) -> "ConditioningBuffer":
        """Return a copy for some items, whose streams are `streams`."""
        whole = (
            None if self.global_conditioning is None else self.global_conditioning[list(streams)]
        )
        frames = None if self.frames is None else self.frames[list(items)]
        return ConditioningBuffer(whole, frames, self.first_frame, self.expects_more)

    def push_frames(self, frames: Tensor, *, more: bool) -> None:
        """Add frames, `(B, C, F)`; `expects_more` says whether others may follow."""
        assert self.frames is not None
        if not self.expects_more:
            raise ValueError("the frames had ended: say more=True at the start")
        if frames.shape[:2] != self.frames.shape[:2]:
            wanted = (*self.frames.shape[:2], "F")
            raise ValueError(f"frames must be {wanted}, got {tuple(frames.shape)}")
        self.frames = torch.cat([self.frames, frames.to(self.frames)], dim=-1)
        self.expects_more = more

    def samples_available(self, model: WaveNet) -> int | None:
        """Return for how many samples of the whole signal the frames suffice; `None`: for any."""
        if self.frames is None or model.local_conditioner is None:
            return None
        known = self.first_frame + self.frames.shape[-1]
        if not self.expects_more:
            return known * model.local_conditioner.hop_length
        size = window_frames(model)
        return (
            max(0, known - model.local_conditioner.lookahead)
            // size
            * size
            * model.local_conditioner.hop_length
        )

    def of_samples(self, model: WaveNet, start: int, length: int) -> Tensor | None:
        """Return the local condition of samples from `start` on, `(B, C, length)`.

        Args:
            model: Whose condition.
            start: Number of the first sample; it never falls.
            length: Samples.

        Raises:
            ValueError: Frames for them are missing.
        """
        ready = self.samples_available(model)
        if ready is None or self.frames is None:
            return None
        if start + length > ready:
            hop = model.config.local.hop_length if model.config.local else 1
            raise ValueError(
                f"frames suffice for {ready} samples, {start + length} are asked for (a frame "
                f"covers {hop}): give more of them" + (", or feed" if self.expects_more else "")
            )
        size = window_frames(model) * model.config.local.hop_length  # type: ignore[union-attr]
        parts = [self.frames.new_zeros(len(self.frames), model.config.local.channels, 0)]  # type: ignore[union-attr]
        while length:
            number, offset = divmod(start, size)
            part = self._window(model, number)[..., offset : offset + length]
            parts.append(part)
            start, length = start + part.shape[-1], length - part.shape[-1]
        return torch.cat(parts, dim=-1)

    def _window(self, model: WaveNet, number: int) -> Tensor:
        """Return the condition of the samples of window `number`, and let go of older frames."""
        if number == self.window_number and self.window is not None:
            return self.window
        local, size = model.local_conditioner, window_frames(model)
        assert local is not None
        assert self.frames is not None
        wanted = torch.arange(number * size - local.past, (number + 1) * size + local.lookahead)
        there = (wanted - self.first_frame).clamp(0, self.frames.shape[-1] - 1)
        around = self.frames[..., there.to(self.frames.device)]
        self.window = torch.cat([local.window(item.unsqueeze(0)) for item in around])
        self.window_number = number
        old = min(max(0, number * size - local.past - self.first_frame), self.frames.shape[-1] - 1)
        self.frames, self.first_frame = self.frames[..., old:], self.first_frame + old
        return self.window


def window_frames(model: WaveNet) -> int:
    """Return the frames of a window."""
    assert model.local_conditioner is not None
    return max(1, -(-WINDOW // model.local_conditioner.hop_length), model.local_conditioner.past)


def build_conditioning(
    model: WaveNet,
    batch_size: int,
    *,
    local: Tensor | None,
    speaker: Tensor | None,
    vector: Tensor | None,
    more: bool,
    guided: bool,
) -> ConditioningBuffer:
    """Return the conditions of a batch at its start.

    Args:
        model: What is conditioned.
        batch_size: Items, `B`.
        local: Frames, `(B, C, F)`, or `(C, F)` for all items.
        speaker: Numbers, `(B,)`, or one for all items.
        vector: Vectors, `(B, V)`, or `(V,)` for all items.
        more: Whether further frames may come.
        guided: Give each item a second stream, to which its speaker and vector are unknown.

    Raises:
        ValueError: A condition is missing, or none of this model's.
    """
    like = next(model.parameters())
    if guided and model.global_conditioner is None:
        raise ValueError("guidance_scale wants a model with speakers or vectors: this one has none")
    speakers = None if speaker is None else speaker.to(like.device).reshape(-1).expand(batch_size)
    vectors = None if vector is None else vector.to(like).expand(batch_size, -1)
    wholes = []
    for item in range(batch_size):  # one by one: last bits depend on how many there are
        its_speaker = None if speakers is None else speakers[item : item + 1]
        its_vector = None if vectors is None else vectors[item : item + 1]
        wholes.append(model.global_condition(1, its_speaker, its_vector))
        if guided:
            wholes.append(model.global_condition(1))
    known = [whole for whole in wholes if whole is not None]
    frames = None
    if model.config.local is not None:
        channels = model.config.local.in_channels
        if local is None and more:
            local = like.new_zeros(channels, 0)
        if local is None:
            raise ValueError(f"the model wants local=, frames of {channels} numbers each")
        if local.dim() not in (2, 3) or local.shape[-2] != channels:
            wanted = f"({batch_size}, {channels}, F)"
            raise ValueError(f"local must be {wanted}, got {tuple(local.shape)}")
        frames = local.to(like).expand(batch_size, -1, -1)
    elif local is not None:
        raise ValueError("the model knows no local condition: leave local out")
    return ConditioningBuffer(torch.cat(known) if known else None, frames, 0, more)
