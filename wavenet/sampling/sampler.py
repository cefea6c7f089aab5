"""What every sampler does: whole signals, chunks, and a state that can be kept.

A backend says how to `start` and how to `advance`; everything else follows.
"""

import abc
import dataclasses
import json
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from wavenet.distributions import SamplingConfig
from wavenet.model import WaveNet, WaveNetState
from wavenet.modules.embedding import NOTHING
from wavenet.sampling.conditioning import ConditioningBuffer, build_conditioning
from wavenet.sampling.noise import uniforms
from wavenet.utils.errors import CheckpointError, printable
from wavenet.utils.files import atomic_file

PLAIN = SamplingConfig()


class ModelState(Protocol):
    """Queues and position, in the form of whichever backend uses them."""

    position: int

    @property
    def batch_size(self) -> int:
        """Return the number of items."""

    def clone(self) -> "ModelState":
        """Return a copy that goes on by itself."""

    def select(self, items: Sequence[int]) -> "ModelState":
        """Return a copy of some items of the batch."""

    def plain(self) -> WaveNetState:
        """Return the state as the model's own."""


@dataclass
class SamplerState:
    """Where the generation of a batch stands.

    Attributes:
        model: Queues and position, of one stream an item, or two where it is guided.
        sample: The last sample of each item, `(B,)`.
        seeds: Seed of each item's noise.
        num_generated: Samples generated so far.
        conditioning: What conditions the signals.
        guidance_scale: How far a draw goes from what is likely for an unknown speaker towards what is
            likely for its own: 1 for its own, more for beyond.
    """

    model: ModelState
    sample: Tensor
    seeds: tuple[int, ...]
    num_generated: int = 0
    conditioning: ConditioningBuffer = field(default_factory=ConditioningBuffer)
    guidance_scale: float = 1.0

    @property
    def streams_per_item(self) -> int:
        """Two where draws are guided: the item's own stream, and one to which it is unknown."""
        return 1 if self.guidance_scale == 1.0 else 2

    def clone(self) -> "SamplerState":
        """Return a copy that goes on by itself."""
        return dataclasses.replace(
            self,
            model=self.model.clone(),
            sample=self.sample.clone(),
            conditioning=self.conditioning.clone(),
        )

    def select(self, items: Sequence[int]) -> "SamplerState":
        """Return a copy of some items of the batch."""
        chosen, copies = list(items), self.streams_per_item
        streams = [copies * item + copy for item in chosen for copy in range(copies)]
        return dataclasses.replace(
            self,
            model=self.model.select(streams),
            sample=self.sample[chosen],
            seeds=tuple(self.seeds[item] for item in chosen),
            conditioning=self.conditioning.select(chosen, streams),
        )

    def save(self, path: Path | str) -> None:
        """Write the state to a safetensors file, atomically; any backend can go on from it."""
        queues, conditions = self.model.plain().queues, self.conditioning
        tensors = {f"queue.{index}": queue.contiguous() for index, queue in enumerate(queues)}
        tensors["sample"] = self.sample.contiguous()
        for name in ("global_conditioning", "frames"):
            if getattr(conditions, name) is not None:
                tensors[name] = getattr(conditions, name).contiguous()
        numbers = {
            "position": self.model.position,
            "num_generated": self.num_generated,
            "seeds": self.seeds,
            "guidance_scale": self.guidance_scale,
            "first_frame": conditions.first_frame,
            "expects_more": conditions.expects_more,
        }
        with atomic_file(Path(path)) as temporary:
            metadata = {"wavenet.sampler": json.dumps(numbers)}
            temporary.write_bytes(serialize(tensors, metadata))

    @classmethod
    def load(cls, path: Path | str) -> "SamplerState":
        """Read a state that `save` wrote.

        Raises:
            CheckpointError: The file is not a whole sampler state.
        """
        try:
            with safe_open(path, framework="pt") as file:
                numbers = json.loads((file.metadata() or {})["wavenet.sampler"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            count = sum(name.startswith("queue.") for name in tensors)
            queues = [tensors[f"queue.{index}"] for index in range(count)]
            conditions = ConditioningBuffer(
                tensors.get("global_conditioning"),
                tensors.get("frames"),
                _count(numbers["first_frame"]),
                numbers["expects_more"] is True,
            )
            whole = cls(
                WaveNetState(queues, _count(numbers["position"])),
                tensors["sample"],
                tuple(numbers["seeds"]),
                _count(numbers["num_generated"]),
                conditions,
                float(numbers["guidance_scale"]),
            )
            item_seeds(whole.seeds, check_batch(whole))
            return whole
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{printable(path)} is not a whole sampler state: {printable(error)}"
            ) from error


class Sampler(abc.ABC):
    """Draws signals from a `WaveNet`.

    Args:
        model: What to draw from; the sampler keeps a copy.

    Attributes:
        name: What `make_sampler` calls the backend.
        chunk: Samples over all items that `generate` draws between two calls of `progress`.
        model: The copy, its weight norm folded.
    """

    name: ClassVar[str]
    chunk: ClassVar[int] = 1000
    model: WaveNet

    @abc.abstractmethod
    def __init__(self, model: WaveNet) -> None: ...

    @torch.inference_mode()
    def init_state(
        self,
        batch_size: int = 1,
        prompt: Tensor | None = None,
        seed: int | Sequence[int] = 0,
        *,
        local: Tensor | None = None,
        speaker: Tensor | None = None,
        vector: Tensor | None = None,
        guidance_scale: float = 1.0,
        more: bool = False,
    ) -> SamplerState:
        """Return the state at the start of a batch, or at the end of a prompt.

        Args:
            batch_size: Items, `B`.
            prompt: What the signals go on from, `(B, T)` or `(T,)` for all items, in [-1, 1].
            seed: Item `i` is drawn with `seed + i`, whatever the batch; or one seed an item.
            local: Frames that condition the signals, prompt included, `(B, C, F)`, or `(C, F)` for
                all items.
            speaker: Speakers, `(B,)`, or one for all items; -1 and absent for unknown.
            vector: Vectors that condition whole signals, `(B, V)`, or `(V,)` for all items.
            guidance: 1 draws what is likely for speaker and vector, more goes beyond that, away
                from what is likely for anybody; it takes twice the work.
            more: Whether further frames will be fed.
        """
        if not math.isfinite(guidance_scale):
            raise ValueError(f"guidance_scale must be a finite number, got {guidance_scale}")
        conditions = build_conditioning(
            self.model,
            batch_size,
            local=local,
            speaker=speaker,
            vector=vector,
            more=more,
            guided=guidance_scale != 1.0,
        )
        like = next(self.model.parameters())
        sample = like.new_zeros(batch_size)
        copies = 1 if guidance_scale == 1.0 else 2
        fresh = self.init_model_state(copies * batch_size, conditions)
        seeds = item_seeds(seed, batch_size)
        state = SamplerState(fresh, sample, seeds, 0, conditions, guidance_scale)
        if prompt is not None and prompt.numel():
            prompts = item_prompts(prompt.to(like), batch_size)
            condition = conditions.of_samples(self.model, 0, prompts.shape[1])
            if condition is not None:
                condition = condition.repeat_interleave(copies, dim=0)
            self.prefill(state, prompts.repeat_interleave(copies, dim=0), condition)
            state.sample = prompts[:, -1].clone()
        return state

    def push_frames(self, state: SamplerState, frames: Tensor, *, more: bool = True) -> None:
        """Add frames that condition what comes next, `(B, C, F)`; `more` if others may follow."""
        state.conditioning.push_frames(frames, more=more)

    def samples_available(self, state: SamplerState) -> int | None:
        """Return how many samples can be drawn before frames must be fed; `None` for any number."""
        ready = state.conditioning.samples_available(self.model)
        return None if ready is None else max(0, ready - state.model.position)

    @torch.inference_mode()
    def generate_next(
        self,
        state: SamplerState,
        length: int,
        draw: SamplingConfig = PLAIN,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return the next samples, `(B, length)`, and move the state to their end.

        Args:
            state: From `init_state`, changed in place.
            length: Samples to generate.
            draw: Temperature and truncation.
            noise: Uniforms of [0, 1), `(B, length, K)`; drawn from the state's seeds if absent.

        Raises:
            CheckpointError: The model puts out NaN or infinity.
            ConfigError: The model's distribution knows no such draw.
            ValueError: The state is another model's, or frames are missing.
        """
        length = operator.index(length)
        self.model.distribution.check(draw)
        check_batch(state)
        uniform = item_noise(state, length, self.model.distribution.num_noise, noise)
        condition = state.conditioning.of_samples(self.model, state.model.position, length)
        signal = self.sample(state, length, draw, uniform, condition)
        if length:
            state.sample = signal[:, -1].clone()
        state.num_generated += length
        return signal

    @torch.inference_mode()
    def teacher_forced(
        self,
        waveform: Tensor,
        *,
        local: Tensor | None = None,
        speaker: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """Return the parameters of every sample given those before it, `(B, P, T)`.

        What `forward` returns for `waveform`, `(B, T)` in [-1, 1], with the numbers that this
        sampler computes with.
        """
        state = self.init_state(len(waveform), local=local, speaker=speaker, vector=vector)
        condition = state.conditioning.of_samples(self.model, 0, waveform.shape[1])
        return self.teacher_forced_from(state, waveform, condition)

    @abc.abstractmethod
    def init_model_state(self, streams: int, conditions: ConditioningBuffer) -> ModelState:
        """Return the state of streams before their first sample."""

    @abc.abstractmethod
    def prefill(self, state: SamplerState, prompt: Tensor, condition: Tensor | None) -> None:
        """Take a state from the start to the end of a prompt.

        Args:
            state: Its model state is changed.
            prompt: Of each stream, `(streams, T)`.
            condition: Of its samples, local part, `(streams, C, T)`.
        """

    @abc.abstractmethod
    def sample(
        self,
        state: SamplerState,
        length: int,
        draw: SamplingConfig,
        noise: Tensor,
        condition: Tensor | None,
    ) -> Tensor:
        """Return the next samples, `(B, length)`; the model state moves to their end.

        Args:
            state: Its model state is changed.
            length: Samples to generate.
            draw: Temperature and truncation.
            noise: Uniforms, `(B, length, K)`.
            condition: Of these samples, local part, `(B, C, length)`.
        """

    @abc.abstractmethod
    def teacher_forced_from(
        self, state: SamplerState, waveform: Tensor, condition: Tensor | None
    ) -> Tensor:
        """Return the parameters of every sample of a waveform, `(B, P, T)`, from the start on."""

    def generate(
        self,
        length: int | None = None,
        *,
        draw: SamplingConfig = PLAIN,
        noise: Tensor | None = None,
        progress: Callable[[int], None] | None = None,
        **how: Any,
    ) -> Tensor:
        """Return whole signals, `(B, length)`, without the prompt; see `init_state` and `generate_next`.

        Args:
            length: Samples to generate; absent for as many as the frames cover.
            draw: Temperature and truncation.
            noise: Uniforms of [0, 1), `(B, length, K)`, in place of the seeds'.
            progress: Called now and then with the samples generated since the last call.
            **how: As `init_state`: batch size, prompt, seeds, conditions.
        """
        if length is not None and length < 0:
            raise ValueError(f"length must be 0 or more, got {length}")
        state = self.init_state(**how)
        length = self._length(state, length)
        chunks = [state.sample.new_zeros(len(state.seeds), 0)]
        chunk = max(1, self.chunk // max(len(state.seeds), 1))
        for first in range(0, length, chunk):
            count = min(chunk, length - first)
            part = None if noise is None else noise[:, first : first + count]
            chunks.append(self.generate_next(state, count, draw, part))
            if progress is not None:
                progress(count)
        return torch.cat(chunks, dim=1)

    def generate_ragged(
        self, lengths: Sequence[int], *, draw: SamplingConfig = PLAIN, **how: Any
    ) -> list[Tensor]:
        """Return a signal of each length, `(T,)`; one that is finished leaves the batch.

        Args:
            lengths: Samples to generate, one an item.
            draw: Temperature and truncation.
            **how: As `init_state`: prompt, seeds, conditions. Of shorter items, `local` is padded.
        """
        if any(length < 0 for length in lengths):
            raise ValueError(f"lengths must be 0 or more, got {list(lengths)}")
        state = self.init_state(len(lengths), **how)
        active = list(range(len(lengths)))
        pieces: list[list[Tensor]] = [[state.sample.new_zeros(0)] for _ in lengths]
        for stop in sorted(set(lengths)):
            staying = [place for place, item in enumerate(active) if lengths[item] >= stop]
            state, active = state.select(staying), [active[place] for place in staying]
            part = self.generate_next(state, stop - state.num_generated, draw)
            for item, piece in zip(active, part, strict=True):
                pieces[item].append(piece)
        return [torch.cat(piece) for piece in pieces]

    def stream(
        self,
        length: int | None = None,
        *,
        chunk: int = 1024,
        draw: SamplingConfig = PLAIN,
        **how: Any,
    ) -> Iterator[Tensor]:
        """Yield the signal that `generate` would return, `(B, chunk)` at a time.

        Args:
            length: Samples in all; absent for as many as the frames cover, and without end for a
                model that has none.
            chunk: Samples at a time; the last chunk holds what remains.
            draw: Temperature and truncation.
            **how: As `init_state`: batch size, prompt, seeds, conditions.
        """
        if chunk < 1:
            raise ValueError(f"chunk must be 1 or more, got {chunk}")
        state = self.init_state(**how)
        if length is None:
            length = self.samples_available(state)
        while length is None or state.num_generated < length:
            count = chunk if length is None else min(chunk, length - state.num_generated)
            yield self.generate_next(state, count, draw)

    def _length(self, state: SamplerState, length: int | None) -> int:
        length = self.samples_available(state) if length is None else length
        if length is None:
            raise ValueError("length is not said, and the model has no frames that would say it")
        return length


def item_seeds(seed: int | Sequence[int], batch_size: int) -> tuple[int, ...]:
    """Return one seed an item: `seed + i`, or the given ones."""
    if isinstance(seed, Sequence):
        given = [operator.index(entry) for entry in seed]
    else:
        given = [operator.index(seed) + item for item in range(batch_size)]
    if len(given) != batch_size:
        raise ValueError(f"seed must be one number or one an item ({batch_size}), got {len(given)}")
    if any(not 0 <= entry < 2**64 for entry in given):
        raise ValueError(f"seeds must be from 0 to 2**64 - 1, got {given}")
    return tuple(given)


def item_noise(state: SamplerState, length: int, num_noise: int, noise: Tensor | None) -> Tensor:
    """Return the noise of the next `length` samples, `(B, length, K)`, given or from the seeds."""
    if noise is None:
        return uniforms(state.seeds, state.num_generated, length, num_noise)
    wanted = (len(state.seeds), length, num_noise)
    if tuple(noise.shape) != wanted:
        raise ValueError(f"noise must have shape {wanted}, got {tuple(noise.shape)}")
    if not bool(((noise >= 0) & (noise <= 1)).all()):
        raise ValueError("noise must be numbers from 0 to 1")
    return noise


def item_prompts(prompt: Tensor, batch_size: int) -> Tensor:
    """Return one prompt an item, `(B, T)`, from `(B, T)`, `(1, T)` or `(T,)`."""
    prompts = prompt if prompt.dim() == 2 else prompt.unsqueeze(0)
    if prompts.dim() != 2 or prompts.shape[0] not in (1, batch_size):
        wanted = f"(T,), (1, T) or ({batch_size}, T)"
        raise ValueError(f"prompt must have shape {wanted}, got {tuple(prompt.shape)}")
    if not bool((prompts.abs() <= 1).all()):
        raise ValueError("prompt must be samples in [-1, 1]")
    return prompts.expand(batch_size, -1)


def check_batch(state: SamplerState) -> int:
    """Return how many items a state has; raise unless all of it has as many."""
    streams, items = state.model.batch_size, len(state.seeds)
    found = streams / state.streams_per_item, len(state.sample), items
    if len(set(found)) > 1:
        raise ValueError(
            "the state has queues of {:g}, samples of {} and seeds of {} items".format(*found)
        )
    for tensor, wanted in (
        (state.conditioning.global_conditioning, streams),
        (state.conditioning.frames, items),
    ):
        if tensor is not None and len(tensor) != wanted:
            raise ValueError(f"the state has conditions of {len(tensor)}, wanted {wanted}")
    return items


def _count(number: object) -> int:
    count = operator.index(number)  # type: ignore[arg-type]
    if not 0 <= count < 2**62:
        raise ValueError(f"{count} is no number of samples")
    return count


def check_state(state: WaveNetState, model: WaveNet) -> None:
    """Raise unless `state` is one of this model's."""
    first, levels = state.queues[0], model.config.quantization_channels
    if not first.is_floating_point() and not bool(((first >= NOTHING) & (first < levels)).all()):
        raise ValueError(f"the state is another model's: it holds classes outside of {levels}")
    wanted = [tuple(queue.shape[1:]) for queue in model.new_state(1).queues]
    if [tuple(queue.shape[1:]) for queue in state.queues] != wanted:
        raise ValueError("the state is another model's: its queues have other shapes")
