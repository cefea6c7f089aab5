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

from wavenet.mel_scale import find_scale_problem
from wavenet.model import WaveNet
from wavenet.model_conditioning import join
from wavenet.sampling.arguments import check_finite, for_all_items

WINDOW_SAMPLES = 512  # approximate length of a window


@dataclass(frozen=True)
class LocalConditioning:
    """Local conditioning of some samples of each stream.

    Attributes:
        values: What the stack is conditioned on, `(streams, C, T)`.
        coefficients: Of the linear predictor by sub-frame, `(streams, N, order + 1)`, if there is
            one.
        subframes: Index of each sample's sub-frame in them, `(T,)`.
    """

    values: Tensor
    coefficients: Tensor | None = None
    subframes: Tensor | None = None

    def repeat_streams(self, count: int) -> "LocalConditioning":
        """Return it for `count` streams in the place of each."""
        coefficients = self.coefficients
        if coefficients is not None:
            coefficients = coefficients.repeat_interleave(count, dim=0)
        values = self.values.repeat_interleave(count, dim=0)
        return LocalConditioning(values, coefficients, self.subframes)

    def after(self, start: int) -> "LocalConditioning":
        """Return that of the samples from number `start` on."""
        subframes = None if self.subframes is None else self.subframes[start:]
        return LocalConditioning(self.values[..., start:], self.coefficients, subframes)

    def joined(self) -> Tensor:
        """Return one tensor, `(streams, C, T)`, as `WaveNet.compute_conditioning` does."""
        if self.coefficients is None or self.subframes is None:
            return self.values
        rows = self.coefficients[:, self.subframes.to(self.coefficients.device)]
        return join(rows.transpose(1, 2), self.values)


@dataclass
class ConditioningBuffer:
    """Conditioning of a batch of streams.

    Attributes:
        global_conditioning: Per stream, `(streams, C)`; `None` without global conditioning.
        frames: Frames that are still needed, `(B, C, F)`; `None` without local conditioning.
        first_frame: Number of the first of them.
        expects_more: Whether further frames may follow.
        window: Upsampled conditioning of the last window, `(B, C, T)`.
        coefficients: Of the linear predictor in that window, by sub-frame, if there is one.
        window_number: Number of that window; -1 for none.
    """

    global_conditioning: Tensor | None = None
    frames: Tensor | None = None
    first_frame: int = 0
    expects_more: bool = False
    window: Tensor | None = field(default=None, repr=False)
    coefficients: Tensor | None = field(default=None, repr=False)
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
        if frames.dim() != 3 or frames.shape[:2] != self.frames.shape[:2]:
            batch_size, channels = self.frames.shape[:2]
            wanted = f"({batch_size}, {channels}, F)"
            raise ValueError(f"frames must be {wanted}, got {tuple(frames.shape)}")
        check_finite("frames", frames)
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

    def check_covered(self, model: WaveNet, stop: int) -> None:
        """Raise a `ValueError` if frames for samples before `stop` are missing."""
        available, local = self.samples_available(model), model.config.local
        if available is not None and local is not None and stop > available:
            raise ValueError(
                f"the frames cover {available} samples, but {stop} are requested (one frame "
                f"covers {local.hop_length}): pass more frames"
                + (" to push_frames" if self.expects_more else "")
            )

    def of_samples(self, model: WaveNet, start: int, length: int) -> LocalConditioning | None:
        """Return the local conditioning of samples from `start` on, a stream per item.

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
        self.check_covered(model, start + length)
        self._move_to(model)
        size = window_frames(model) * local.hop_length
        values = [self.frames.new_zeros(len(self.frames), local.channels, 0)]
        coefficients, subframes = [], None
        if model.mel_predictor is not None:
            subframes = model.mel_predictor.subframe_of(torch.arange(start, start + length))
            shape = len(self.frames), 0, model.mel_predictor.num_rows
            coefficients.append(self.frames.new_zeros(shape, dtype=torch.float32))
        while length:
            number, offset = divmod(start, size)
            window, rows = self._upsampled_window(model, number)
            values.append(window[..., offset : offset + length])
            if rows is not None and subframes is not None:
                first = number * rows.shape[1]
                begin, end = int(subframes[0]) - first, int(subframes[-1]) + 1 - first
                coefficients.append(rows[:, max(begin, 0) : end])
            count = values[-1].shape[-1]
            start, length = start + count, length - count
        by_sample = [part.transpose(1, 2) for part in values]  # as samplers read it
        joined = torch.cat(by_sample, dim=1).transpose(1, 2)
        if subframes is None:
            return LocalConditioning(joined)
        return LocalConditioning(joined, torch.cat(coefficients, dim=1), subframes - subframes[:1])

    def _move_to(self, model: WaveNet) -> None:
        """Move frames and window to the model: a file or another backend has them elsewhere."""
        like = next(model.parameters())
        self.frames = None if self.frames is None else self.frames.to(like)
        self.window = None if self.window is None else self.window.to(like)
        if self.coefficients is not None:
            self.coefficients = self.coefficients.to(like.device)

    def _upsampled_window(self, model: WaveNet, number: int) -> tuple[Tensor, Tensor | None]:
        """Return the conditioning of window `number`, and the coefficients of its sub-frames.

        It drops frames that are no longer needed.
        """
        if number == self.window_number and self.window is not None:
            return self.window, self.coefficients
        local, size = model.local_conditioner, window_frames(model)
        assert local is not None
        assert self.frames is not None
        first = number * size - local.past
        wanted = torch.arange(first, (number + 1) * size + model.frame_lookahead)
        places = (wanted - self.first_frame).clamp(0, self.frames.shape[-1] - 1)
        context = self.frames[..., places.to(self.frames.device)]
        rows, values = zip(*(model.local_window(one.unsqueeze(0)) for one in context), strict=True)
        self.window, self.window_number = torch.cat(values), number
        self.coefficients = None if rows[0] is None else torch.cat(rows)
        unused = min(max(0, first - self.first_frame), self.frames.shape[-1] - 1)
        self.frames, self.first_frame = self.frames[..., unused:], self.first_frame + unused
        return self.window, self.coefficients


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
        ValueError: Conditioning is missing or not finite, or the model does not have it.
    """
    like = next(model.parameters())
    if guided and model.global_conditioner is None:
        raise ValueError("guidance_scale requires a model with speakers or vectors")
    speakers = vectors = None
    if speaker is not None:
        numbers = speaker.to(like.device).reshape(-1)
        speakers = for_all_items("speaker", numbers, batch_size, dims=1)
    if vector is not None:
        width = model.config.global_in_channels
        if width and vector.shape[-1:] != (width,):
            wanted = f"({batch_size}, {width})"
            raise ValueError(f"vector must be {wanted}, got {tuple(vector.shape)}")
        check_finite("vector", vector)
        vectors = for_all_items("vector", vector.to(like), batch_size, dims=2)
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
    check_finite("local", local)
    _check_scale(model, local)
    return for_all_items("local", local.to(like), batch_size, dims=3)


def _check_scale(model: WaveNet, local: Tensor) -> None:
    """Raise `ValueError` for a mel of another scale, if a predictor has the model's convention."""
    mel = None if model.config.predictor is None else model.config.predictor.mel
    if mel is None:
        return
    for bands in local[..., : mel.n_mels, :].unsqueeze(0).flatten(0, -3):
        problem = find_scale_problem(bands, mel)
        if problem is not None and problem.is_certain:
            raise ValueError(f"local: {problem.text}")


def check_channels(name: str, conditioning: Tensor | None, wanted: int) -> None:
    """Raise `ValueError` if a state's conditioning `(B, C, ...)` is not of `wanted` channels."""
    found = 0 if conditioning is None else conditioning.shape[1]
    if found != wanted:
        raise ValueError(
            f"the state is another model's: {name} conditioning of {found} channels, this model "
            f"has {wanted}"
        )
