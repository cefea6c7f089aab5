"""What every sampler does: whole signals, chunks, and a state that can be kept.

A backend says how to `start` and how to `advance`; everything else follows.
"""

import abc
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from wavenet.distributions import Draw
from wavenet.errors import CheckpointError, printable
from wavenet.files import atomic_file
from wavenet.model import WaveNet, WaveNetState
from wavenet.modules.embedding import NOTHING
from wavenet.sampling.noise import uniforms

PLAIN = Draw()


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
        model: Queues and position.
        sample: The last sample of each item, `(B,)`.
        seeds: Seed of each item's noise.
        drawn: Samples generated so far.
    """

    model: ModelState
    sample: Tensor
    seeds: tuple[int, ...]
    drawn: int = 0

    def clone(self) -> "SamplerState":
        """Return a copy that goes on by itself."""
        return SamplerState(self.model.clone(), self.sample.clone(), self.seeds, self.drawn)

    def select(self, items: Sequence[int]) -> "SamplerState":
        """Return a copy of some items of the batch."""
        chosen = list(items)
        seeds = tuple(self.seeds[item] for item in chosen)
        return SamplerState(self.model.select(chosen), self.sample[chosen], seeds, self.drawn)

    def save(self, path: Path | str) -> None:
        """Write the state to a safetensors file, atomically; any backend can go on from it."""
        queues = self.model.plain().queues
        tensors = {f"queue.{index}": queue.contiguous() for index, queue in enumerate(queues)}
        numbers = {"position": self.model.position, "drawn": self.drawn, "seeds": self.seeds}
        with atomic_file(Path(path)) as temporary:
            metadata = {"wavenet.sampler": json.dumps(numbers)}
            tensors["sample"] = self.sample.contiguous()
            temporary.write_bytes(serialise(tensors, metadata))

    @classmethod
    def load(cls, path: Path | str) -> "SamplerState":
        """Read a state that `save` wrote.

        Raises:
            CheckpointError: The file is not a whole sampler state.
        """
        try:
            with safe_open(path, framework="pt") as file:
                numbers = json.loads((file.metadata() or {})["wavenet.sampler"])
                names = [f"queue.{index}" for index in range(len(list(file.keys())) - 1)]
                queues = [file.get_tensor(name) for name in names]
                sample = file.get_tensor("sample")
            state = WaveNetState(queues, _count(numbers["position"]))
            whole = cls(state, sample, tuple(numbers["seeds"]), _count(numbers["drawn"]))
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
    """

    name: ClassVar[str]
    chunk: ClassVar[int] = 1000

    @abc.abstractmethod
    def __init__(self, model: WaveNet) -> None: ...

    @abc.abstractmethod
    def start(
        self, batch_size: int = 1, prompt: Tensor | None = None, seed: int | Sequence[int] = 0
    ) -> SamplerState:
        """Return the state at the start of a batch, or at the end of a prompt.

        Args:
            batch_size: Items, `B`.
            prompt: What the signals go on from, `(B, T)` or `(T,)` for all items, in [-1, 1].
            seed: Item `i` is drawn with `seed + i`, whatever the batch; or one seed an item.
        """

    @abc.abstractmethod
    def advance(
        self, state: SamplerState, length: int, draw: Draw = PLAIN, noise: Tensor | None = None
    ) -> Tensor:
        """Return the next samples, `(B, length)`, and move the state to their end.

        Args:
            state: From `start`, changed in place.
            length: Samples to generate.
            draw: Temperature and truncation.
            noise: Uniforms of [0, 1), `(B, length, K)`; drawn from the state's seeds if absent.
        """

    @abc.abstractmethod
    def parameters(self, waveform: Tensor) -> Tensor:
        """Return the parameters of every sample given those before it, `(B, P, T)`.

        What `forward` returns for `waveform`, `(B, T)` in [-1, 1], with the numbers that this
        sampler computes with.
        """

    def generate(
        self,
        length: int,
        *,
        batch_size: int = 1,
        prompt: Tensor | None = None,
        seed: int | Sequence[int] = 0,
        draw: Draw = PLAIN,
        noise: Tensor | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Return whole signals, `(B, length)`, without the prompt; see `start` and `advance`.

        Args:
            length: Samples to generate.
            batch_size: Items, `B`.
            prompt: What the signals go on from, `(B, T)` or `(T,)`.
            seed: Item `i` is drawn with `seed + i`; or one seed an item.
            draw: Temperature and truncation.
            noise: Uniforms of [0, 1), `(B, length, K)`, in place of the seeds'.
            progress: Called now and then with the samples generated since the last call.
        """
        if length < 0:
            raise ValueError(f"length must be 0 or more, got {length}")
        state = self.start(batch_size, prompt, seed)
        chunks = []
        chunk = max(1, self.chunk // max(batch_size, 1))
        for first in range(0, length, chunk):
            count = min(chunk, length - first)
            part = None if noise is None else noise[:, first : first + count]
            chunks.append(self.advance(state, count, draw, part))
            if progress is not None:
                progress(count)
        return torch.cat(chunks, dim=1) if chunks else state.sample.new_zeros(batch_size, 0)

    def generate_each(
        self,
        lengths: Sequence[int],
        *,
        prompt: Tensor | None = None,
        seed: int | Sequence[int] = 0,
        draw: Draw = PLAIN,
    ) -> list[Tensor]:
        """Return a signal of each length, `(T,)`; one that is finished leaves the batch.

        Args:
            lengths: Samples to generate, one an item.
            prompt: What the signals go on from, `(B, T)` or `(T,)`.
            seed: Item `i` is drawn with `seed + i`; or one seed an item.
            draw: Temperature and truncation.
        """
        if any(length < 0 for length in lengths):
            raise ValueError(f"lengths must be 0 or more, got {list(lengths)}")
        state = self.start(len(lengths), prompt, seed)
        active = list(range(len(lengths)))
        pieces: list[list[Tensor]] = [[state.sample.new_zeros(0)] for _ in lengths]
        for stop in sorted(set(lengths)):
            staying = [place for place, item in enumerate(active) if lengths[item] >= stop]
            state, active = state.select(staying), [active[place] for place in staying]
            part = self.advance(state, stop - state.drawn, draw)
            for item, piece in zip(active, part, strict=True):
                pieces[item].append(piece)
        return [torch.cat(piece) for piece in pieces]

    def stream(
        self,
        length: int | None = None,
        *,
        chunk: int = 1024,
        batch_size: int = 1,
        prompt: Tensor | None = None,
        seed: int | Sequence[int] = 0,
        draw: Draw = PLAIN,
    ) -> Iterator[Tensor]:
        """Yield the signal that `generate` would return, `(B, chunk)` at a time.

        Args:
            length: Samples in all; without end if absent.
            chunk: Samples at a time; the last chunk holds what remains.
            batch_size: Items, `B`.
            prompt: What the signals go on from, `(B, T)` or `(T,)`.
            seed: Item `i` is drawn with `seed + i`; or one seed an item.
            draw: Temperature and truncation.
        """
        if chunk < 1:
            raise ValueError(f"chunk must be 1 or more, got {chunk}")
        state = self.start(batch_size, prompt, seed)
        while length is None or state.drawn < length:
            count = chunk if length is None else min(chunk, length - state.drawn)
            yield self.advance(state, count, draw)


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
    check_batch(state)
    if noise is None:
        return uniforms(state.seeds, state.drawn, length, num_noise)
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
    found = state.model.batch_size, len(state.sample), len(state.seeds)
    if len(set(found)) > 1:
        raise ValueError(
            "the state has queues of {}, samples of {} and seeds of {} items".format(*found)
        )
    return found[0]


def _count(number: object) -> int:
    count = operator.index(number)  # type: ignore[arg-type]
    if not 0 <= count < 2**62:
        raise ValueError(f"{count} is no number of samples")
    return count


def check_state(state: WaveNetState, model: WaveNet) -> None:
    """Raise unless `state` is one of this model's."""
    first, levels = state.queues[0], model.config.levels
    if not first.is_floating_point() and not bool(((first >= NOTHING) & (first < levels)).all()):
        raise ValueError(f"the state is another model's: it holds classes outside of {levels}")
    wanted = [tuple(queue.shape[1:]) for queue in model.new_state(1).queues]
    if [tuple(queue.shape[1:]) for queue in state.queues] != wanted:
        raise ValueError("the state is another model's: its queues have other shapes")
