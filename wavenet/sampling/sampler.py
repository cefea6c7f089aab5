"""The interface of all backends: complete signals, streaming in chunks, states that can be kept.

A backend implements `init_model_state`, `prefill`, `sample` and `teacher_forced_params`; the rest
is defined here in terms of those.
"""

from __future__ import annotations  # help() shows Array by its name

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from wavenet.distributions import SamplingConfig
from wavenet.model import WaveNet
from wavenet.modules.checks import whole_numbers
from wavenet.sampling.arguments import (
    StartArguments,
    as_speakers,
    check_count,
    check_guidance_scale,
    check_noise,
    check_prompt,
    check_sampling,
    check_seeds,
    inference_in_float32,
    with_arguments_of,
)
from wavenet.sampling.conditioning import (
    ConditioningBuffer,
    LocalConditioning,
    build_conditioning,
    check_channels,
)
from wavenet.sampling.state import (
    ModelState,
    SamplerState,
    check_batch,
    signals_like,
    streams_per_item,
    uniforms,
)
from wavenet.sampling.voicing import check_voicing
from wavenet.utils.arrays import Array, as_optional_tensor, as_tensor
from wavenet.utils.errors import ConfigError
from wavenet.utils.memory import check_memory
from wavenet.waveform import check_samples_finite, shape_of_input

if TYPE_CHECKING:
    from typing_extensions import Unpack  # of typing from Python 3.11 on

DEFAULT_SAMPLING = SamplingConfig()
MEASURED_STREAMS = 16  # of the state that tells the memory of larger ones: a warp's on a GPU


class Sampler(abc.ABC):
    """Generates signals with a `WaveNet`.

    NumPy arrays are taken wherever tensors are; the results are tensors.

    Threads may share a sampler, but not a `SamplerState`: each generates from its own. Those of
    `graph` take turns. On a GPU the precision of products is a setting of the process, which a
    sampler changes while it computes: let one thread compute at a time there.

    Attributes:
        name: Name of the backend in `make_sampler`.
        draws_by_voicing: Whether it knows `SamplingConfig.voiced_temperature`.
        progress_interval: Samples, summed over items, between two calls of `progress`.
        bytes_per_item: Memory of an item beside the state of its streams: its seed and last sample.
        model: A copy of the model, without weight norm.
    """

    name: ClassVar[str]
    draws_by_voicing: ClassVar[bool] = False
    progress_interval: ClassVar[int] = 1000
    bytes_per_item: ClassVar[int] = 100
    model: WaveNet

    @inference_in_float32
    def init_state(
        self,
        batch_size: int = 1,
        prompt: Array | None = None,
        seed: int | Sequence[int] | Array = 0,
        *,
        local: Array | None = None,
        speaker: int | Array | None = None,
        vector: Array | None = None,
        guidance_scale: float = 1.0,
        more: bool = False,
    ) -> SamplerState:
        """Return the state at the start of a batch, or at the end of a prompt.

        Args:
            batch_size: Items, `B`.
            prompt: Samples that the signals continue, `(B, T)` or `(T,)` for all items, in [-1, 1].
            seed: Item `i` uses `seed + i`, independent of the batch; or one seed per item.
            local: Frames for local conditioning, prompt included, `(B, C, F)`, or `(C, F)` for all
                items.
            speaker: Speaker numbers, `(B,)`, or one number for all items; -1 is the null speaker,
                the default.
            vector: Vectors for global conditioning, `(B, V)`, or `(V,)` for all items.
            guidance_scale: Classifier-free guidance on speaker and vector; 1 turns it off. Any
                other value doubles the work.
            more: Whether `push_frames` will add frames.

        Raises:
            MachineError: The batch needs more memory than is free.
        """
        batch_size = check_count("batch_size", batch_size, 0)
        guidance_scale = check_guidance_scale(guidance_scale)
        self._check_memory(batch_size, streams_per_item(guidance_scale))
        conditioning = build_conditioning(
            self.model,
            batch_size,
            local=as_optional_tensor("local", local, self),
            speaker=as_speakers(speaker, self),
            vector=as_optional_tensor("vector", vector, self),
            more=more,
            guided=guidance_scale != 1.0,
        )
        like, per_item = signals_like(self.model), streams_per_item(guidance_scale)
        state = SamplerState(
            self.init_model_state(per_item * batch_size, conditioning),
            like.new_zeros(batch_size),
            check_seeds(seed, batch_size),
            conditioning=conditioning,
            guidance_scale=guidance_scale,
        )
        prompt = as_optional_tensor("prompt", prompt, self)
        if prompt is not None and prompt.numel():
            prompts = check_prompt(prompt.to(like), batch_size)
            local_conditioning = state.next_local_conditioning(self.model, prompts.shape[1])
            self.prefill(state, prompts.repeat_interleave(per_item, dim=0), local_conditioning)
            state.sample = prompts[:, -1].clone()
        return state

    def push_frames(self, state: SamplerState, frames: Array, *, more: bool = True) -> None:
        """Append frames for local conditioning, `(B, C, F)`; `more` if others will follow."""
        state.conditioning.push_frames(as_tensor("frames", frames, self), more=more)

    def samples_available(self, state: SamplerState) -> int | None:
        """Return how many samples the frames so far allow; `None` for any number."""
        total = state.conditioning.samples_available(self.model)
        return None if total is None else max(0, total - state.model.position)

    @inference_in_float32
    def generate_next(
        self,
        state: SamplerState,
        length: int,
        sampling: SamplingConfig = DEFAULT_SAMPLING,
        noise: Array | None = None,
    ) -> Tensor:
        """Return the next samples, `(B, length)`, and advance the state to their end.

        Args:
            state: From `init_state`, changed in place.
            length: Samples to generate.
            sampling: Temperature and truncation.
            noise: Uniforms of [0, 1), `(B, length, K)`; from the state's seeds if absent.

        Raises:
            CheckpointError: The model returns NaN or infinity.
            ConfigError: The model or this sampler does not support `sampling`.
            ValueError: The state has other queues, classes or conditioning than this model, or
                frames are missing. One of another model of the same sizes is taken.
        """
        length, distribution = check_count("length", length, 0), self.model.distribution
        check_sampling(sampling)
        distribution.check(sampling)
        check_voicing(self.model, sampling)
        if sampling.voiced_temperature is not None and not self.draws_by_voicing:
            raise ConfigError(
                f"backend={self.name} draws all samples with one temperature: voiced_temperature "
                "requires backend=cpu or backend=reference"
            )
        check_batch(state)
        config, shared = self.model.config, state.conditioning.global_conditioning
        wanted = config.global_channels if config.has_global_conditioning else 0
        check_channels("global", shared, wanted)
        if noise is None:
            noise = self.next_noise(state, length)
        else:
            noise = check_noise(noise, self, (len(state.seeds), length, distribution.num_noise))
        local_conditioning = state.next_local_conditioning(self.model, length)
        signal = self.sample(state, length, sampling, noise, local_conditioning)
        if length:
            state.sample = signal[:, -1].clone()
        state.num_generated += length
        return signal

    @inference_in_float32
    def teacher_forced(
        self,
        waveform: Array,
        *,
        local: Array | None = None,
        speaker: int | Array | None = None,
        vector: Array | None = None,
    ) -> Tensor:
        """Return the parameters of every sample given the true samples before it, `(B, P, T)`.

        The result of `WaveNet.forward` for `waveform`, `(B, T)` in [-1, 1], with the arithmetic
        and weight dtype of this sampler. Samples outside of [-1, 1] are clamped to the outermost
        codes.

        Raises:
            ValueError: `waveform` has another shape or no sample, is not floating point or not
                finite.
        """
        waveform = as_tensor("waveform", waveform, self)
        batch_size, length = shape_of_input(waveform)
        check_samples_finite(waveform.cpu())
        state = self.init_state(batch_size, local=local, speaker=speaker, vector=vector)
        local_conditioning = state.next_local_conditioning(self.model, length)
        return self.teacher_forced_params(state, waveform, local_conditioning)

    def next_noise(self, state: SamplerState, length: int) -> Tensor:
        """Return the noise of the next samples, `(B, length, K)`; `K` of 0: `sample` makes it."""
        num_noise = self.model.distribution.num_noise
        return uniforms(state.seeds, state.num_generated, length, num_noise)

    def _check_memory(self, batch_size: int, per_item: int) -> None:
        """Raise unless the states of a batch fit into the memory that is free."""
        if batch_size <= MEASURED_STREAMS:
            return
        measured = self.init_model_state(MEASURED_STREAMS, ConditioningBuffer()).nbytes
        needed = self.bytes_per_item + per_item * measured // MEASURED_STREAMS
        what, instead = f"batch_size={batch_size}", "use a smaller batch_size"
        device = next(self.model.parameters()).device
        check_memory(batch_size * needed, what, device, instead)
        if device.type != "cpu":
            check_memory(batch_size * self.bytes_per_item, what, instead=instead)

    def chunk_length(self, batch_size: int) -> int:
        """Return how many samples `generate` requests at a time."""
        return max(1, self.progress_interval // max(batch_size, 1))

    @abc.abstractmethod
    def init_model_state(self, streams: int, conditioning: ConditioningBuffer) -> ModelState:
        """Return the state of streams before their first sample."""

    @abc.abstractmethod
    def prefill(
        self, state: SamplerState, prompt: Tensor, local_conditioning: LocalConditioning | None
    ) -> None:
        """Advance a new state to the end of a prompt.

        Args:
            state: Its model state is changed.
            prompt: Samples of each stream, `(streams, T)`.
            local_conditioning: Local conditioning of those samples.
        """

    @abc.abstractmethod
    def sample(
        self,
        state: SamplerState,
        length: int,
        sampling: SamplingConfig,
        noise: Tensor,
        local_conditioning: LocalConditioning | None,
    ) -> Tensor:
        """Return the next samples, `(B, length)`; the model state advances to their end.

        Args:
            state: Its model state is changed.
            length: Samples to generate.
            sampling: Temperature and truncation.
            noise: Uniforms, `(B, length, K)`.
            local_conditioning: Local conditioning of these samples.
        """

    @abc.abstractmethod
    def teacher_forced_params(
        self, state: SamplerState, waveform: Tensor, local_conditioning: LocalConditioning | None
    ) -> Tensor:
        """Return the parameters of every sample of a waveform, `(B, P, T)`, from a new state."""

    @with_arguments_of(init_state)
    def generate(
        self,
        length: int | None = None,
        *,
        batch_size: int = 1,
        sampling: SamplingConfig = DEFAULT_SAMPLING,
        noise: Array | None = None,
        progress: Callable[[int], None] | None = None,
        **start: Unpack[StartArguments],
    ) -> Tensor:
        """Return complete signals, `(B, length)`: what was generated, without the prompt.

        `stream` and the files of `wavenet-generate` do not hold the prompt either, except for
        `include_prompt=true` of the command.

        Args:
            length: Samples to generate; absent for as many as the frames cover.
            batch_size: Items, `B`.
            sampling: Temperature and truncation.
            noise: Uniforms of [0, 1), `(B, length, K)`, instead of the seeds'.
            progress: Called regularly with the samples generated since the last call.
            prompt, seed, local, speaker, vector, guidance_scale: As in `init_state`.

        Example:
            >>> import wavenet
            >>> model = wavenet.WaveNet(wavenet.WaveNetConfig(dilations=(1, 2, 4)))
            >>> sampler = wavenet.make_sampler(model)
            >>> signal = sampler.generate(160, batch_size=2, seed=1)
            >>> signal.shape
            torch.Size([2, 160])
        """
        state = self.init_state(batch_size, **start)
        if length is None:
            length = self.samples_available(state)
        if length is None:
            raise ValueError("length is required: the model has no frames that determine it")
        length = check_count("length", length, 0)
        state.check_covered(self.model, length)
        if noise is not None:
            num_noise = self.model.distribution.num_noise
            noise = check_noise(noise, self, (batch_size, length, num_noise))
        chunks, chunk = [state.sample.new_zeros(batch_size, 0)], self.chunk_length(batch_size)
        for first in range(0, length, chunk):
            count = min(chunk, length - first)
            chunk_noise = None if noise is None else noise[:, first : first + count]
            chunks.append(self.generate_next(state, count, sampling, chunk_noise))
            if progress is not None:
                progress(count)
        return torch.cat(chunks, dim=1)

    @with_arguments_of(init_state)
    def generate_ragged(
        self,
        lengths: Sequence[int],
        *,
        sampling: SamplingConfig = DEFAULT_SAMPLING,
        **start: Unpack[StartArguments],
    ) -> list[Tensor]:
        """Return one signal per length, `(T,)`; an item that is complete leaves the batch.

        Args:
            lengths: Samples to generate, one number per item.
            sampling: Temperature and truncation.
            prompt, seed, local, speaker, vector, guidance_scale: As in `init_state`;
                `local` padded for shorter items.
        """
        lengths = whole_numbers("lengths", lengths, 0)
        state = self.init_state(len(lengths), **start)
        state.check_covered(self.model, max(lengths, default=0))
        active = list(range(len(lengths)))
        pieces: list[list[Tensor]] = [[state.sample.new_zeros(0)] for _ in lengths]
        for stop in sorted(set(lengths)):
            remaining = [place for place, item in enumerate(active) if lengths[item] >= stop]
            state, active = state.select(remaining), [active[place] for place in remaining]
            batch = self.generate_next(state, stop - state.num_generated, sampling)
            for item, piece in zip(active, batch, strict=True):
                pieces[item].append(piece)
        return [torch.cat(piece) for piece in pieces]

    @with_arguments_of(init_state)
    def stream(
        self,
        length: int | None = None,
        *,
        chunk: int = 1024,
        batch_size: int = 1,
        sampling: SamplingConfig = DEFAULT_SAMPLING,
        **start: Unpack[StartArguments],
    ) -> Iterator[Tensor]:
        """Yield the signal that `generate` would return, `(B, chunk)` at a time.

        Args:
            length: Samples in total; absent for as many as the frames cover, and for an endless
                stream if the model has no local conditioning.
            chunk: Samples at a time; the last chunk may be shorter.
            batch_size: Items, `B`.
            sampling: Temperature and truncation.
            prompt, seed, local, speaker, vector, guidance_scale: As in `init_state`.

        Example:
            >>> import wavenet
            >>> model = wavenet.WaveNet(wavenet.WaveNetConfig(dilations=(1, 2, 4)))
            >>> sampler = wavenet.make_sampler(model)
            >>> [tuple(chunk.shape) for chunk in sampler.stream(160, chunk=100, seed=1)]
            [(1, 100), (1, 60)]
        """
        chunk = check_count("chunk", chunk, 1)
        state = self.init_state(batch_size, **start)
        if length is None:
            length = self.samples_available(state)
        if length is not None:
            length = check_count("length", length, 0)
            state.check_covered(self.model, length)
        while length is None or state.num_generated < length:
            count = chunk if length is None else min(chunk, length - state.num_generated)
            yield self.generate_next(state, count, sampling)
