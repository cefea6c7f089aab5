"""Conditioning of a batch while it is generated, in constant memory for signals of any length.

The frames of local conditioning may all be given at the start or arrive in pieces. They are
upsampled one window at a time: always the same number of frames, at the same positions of the
signal, each item by itself. So the result depends neither on the batch nor on how frames arrive or
samples are requested.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.model import WaveNet

WINDOW_SAMPLES = 512  # approximate length of a window


@dataclass
class ConditioningBuffer:
    """Conditioning of a batch of streams.

    Attributes:
        global_conditioning: Per stream, `(streams, C)`; `None` without global conditioning.
        frames: Frames that are still needed, `(B, C, F)`; `None` without local conditioning.
        first_frame: Number of the first of them.
        expects_more: Whether further frames may follow.
        window: Upsampled conditioning of the last window, `(B, C, T)`.
        window_number: Number of that window; -1 for none.
    """

    global_conditioning: Tensor | None = None
    frames: Tensor | None = None
    first_frame: int = 0
    expects_more: bool = False
    window: Tensor | None = field(default=None, repr=False)
    window_number: int = -1

    def clone(self) -> "ConditioningBuffer":
        """Return an independent copy; tensors are never changed in place."""
        return dataclasses.replace(self)

    def select(self, items: Sequence[int], streams: Sequence[int]) -> "ConditioningBuffer":
        """Return a copy for some items, whose streams are `streams`."""
        shared, frames = self.global_conditioning, self.frames
        shared = None if shared is None else shared[list(streams)]
        frames = None if frames is None else frames[list(items)]
        return ConditioningBuffer(shared, frames, self.first_frame, self.expects_more)

    def push_frames(self, frames: Tensor, *, more: bool) -> None:
        """Append frames, `(B, C, F)`; `more` if others may follow."""
        if self.frames is None:
            raise ValueError("the model has no local conditioning, but frames were given")
        if not self.expects_more:
            raise ValueError("the frames are complete: pass more=True to init_state")
        if frames.shape[:2] != self.frames.shape[:2]:
            wanted = (*self.frames.shape[:2], "F")
            raise ValueError(f"frames must be {wanted}, got {tuple(frames.shape)}")
        self.frames = torch.cat([self.frames, frames.to(self.frames)], dim=-1)
        self.expects_more = more

    def samples_available(self, model: WaveNet) -> int | None:
        """Return how many samples of the signal the frames so far allow; `None` for any number."""
        local = model.local_conditioner
        if self.frames is None or local is None:
            return None
        received = self.first_frame + self.frames.shape[-1]
        if not self.expects_more:
            return received * local.hop_length
        size = window_frames(model)
        return max(0, received - model.frame_lookahead) // size * size * local.hop_length

    def of_samples(self, model: WaveNet, start: int, length: int) -> Tensor | None:
        """Return the local conditioning of samples from `start` on, `(B, C, length)`.

        Args:
            model: The conditioned model.
            start: Number of the first sample; it never decreases from call to call.
            length: Samples.

        Raises:
            ValueError: Frames for them are missing.
        """
        available, local = self.samples_available(model), model.config.local
        if available is None or self.frames is None or local is None:
            return None
        if start + length > available:
            raise ValueError(
                f"the frames cover {available} samples, but {start + length} are requested (one "
                f"frame covers {local.hop_length}): pass more frames"
                + (" to push_frames" if self.expects_more else "")
            )
        self._move_to(model)
        size = window_frames(model) * local.hop_length
        width = local.channels + (0 if model.predictor is None else model.predictor.num_rows)
        parts = [self.frames.new_zeros(len(self.frames), width, 0)]
        while length:
            number, offset = divmod(start, size)
            parts.append(self._upsampled_window(model, number)[..., offset : offset + length])
            start, length = start + parts[-1].shape[-1], length - parts[-1].shape[-1]
        by_sample = [part.transpose(1, 2) for part in parts]  # as samplers read it
        return torch.cat(by_sample, dim=1).transpose(1, 2)

    def _move_to(self, model: WaveNet) -> None:
        """Move frames and window to the model: a file or another backend has them elsewhere."""
        like = next(model.parameters())
        self.frames = None if self.frames is None else self.frames.to(like)
        self.window = None if self.window is None else self.window.to(like)

    def _upsampled_window(self, model: WaveNet, number: int) -> Tensor:
        """Return the conditioning of window `number`; drops frames that are no longer needed."""
        if number == self.window_number and self.window is not None:
            return self.window
        local, size = model.local_conditioner, window_frames(model)
        assert local is not None
        assert self.frames is not None
        first = number * size - local.past
        wanted = torch.arange(first, (number + 1) * size + model.frame_lookahead)
        places = (wanted - self.first_frame).clamp(0, self.frames.shape[-1] - 1)
        context = self.frames[..., places.to(self.frames.device)]
        self.window = torch.cat([model.local_window(item.unsqueeze(0)) for item in context])
        self.window_number = number
        unused = min(max(0, first - self.first_frame), self.frames.shape[-1] - 1)
        self.frames, self.first_frame = self.frames[..., unused:], self.first_frame + unused
        return self.window


def window_frames(model: WaveNet) -> int:
    """Return the number of frames in a window."""
    local = model.local_conditioner
    assert local is not None
    return max(1, -(-WINDOW_SAMPLES // local.hop_length), local.past)


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
    """Return the conditioning of a batch before its first sample.

    Args:
        model: The conditioned model.
        batch_size: Items, `B`.
        local: Frames, `(B, C, F)`, or `(C, F)` for all items.
        speaker: Speaker numbers, `(B,)`, or one for all items.
        vector: Vectors, `(B, V)`, or `(V,)` for all items.
        more: Whether further frames may follow.
        guided: Give each item a second, unconditional stream for classifier-free guidance.

    Raises:
        ValueError: Conditioning is missing, or the model does not have it.
    """
    like = next(model.parameters())
    if guided and model.global_conditioner is None:
        raise ValueError("guidance_scale requires a model with speakers or vectors")
    speakers = None if speaker is None else speaker.to(like.device).reshape(-1).expand(batch_size)
    vectors = None if vector is None else vector.to(like).expand(batch_size, -1)
    rows = []
    for item in range(batch_size):  # one by one: the last bits depend on the number of rows
        item_speaker = None if speakers is None else speakers[item : item + 1]
        item_vector = None if vectors is None else vectors[item : item + 1]
        rows.append(model.compute_global_conditioning(1, item_speaker, item_vector))
        if guided:
            rows.append(model.compute_global_conditioning(1))
    known = [row for row in rows if row is not None]
    shared = torch.cat(known) if known else None
    return ConditioningBuffer(shared, _check_frames(model, batch_size, local, more), 0, more)


def _check_frames(
    model: WaveNet, batch_size: int, local: Tensor | None, more: bool
) -> Tensor | None:
    """Return the frames, `(B, C, F)`, in the dtype of the model; `None` if it takes none."""
    if model.config.local is None:
        if local is not None:
            raise ValueError("the model has no local conditioning, but local was given")
        return None
    like, channels = next(model.parameters()), model.config.local.in_channels
    if local is None and more:
        local = like.new_zeros(channels, 0)
    if local is None:
        raise ValueError(f"the model requires local: frames of {channels} channels")
    if local.dim() not in (2, 3) or local.shape[-2] != channels:
        wanted = f"({batch_size}, {channels}, F)"
        raise ValueError(f"local must be {wanted}, got {tuple(local.shape)}")
    return local.to(like).expand(batch_size, -1, -1)
