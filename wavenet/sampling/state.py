"""State of a generation in progress, its noise, and the checks of a state and of its model.

A state can be saved; every backend can load and continue it. Its noise is a pure function of seed
and sample number: a counter-based generator (Philox) gives the uniforms of any section of any item
directly. So a draw does not depend on batch size, chunk size or interruptions.
"""

import dataclasses
import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.random import Philox  # np.random loads at its first use, and a signal then is lost
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from wavenet.distributions.distribution import widen
from wavenet.model import WaveNet, WaveNetState
from wavenet.modules.checks import check_step_is_whole
from wavenet.sampling.arguments import check_seeds
from wavenet.sampling.conditioning import ConditioningBuffer, LocalConditioning
from wavenet.utils.errors import CheckpointError, ConfigError, printable
from wavenet.utils.files import atomic_file
from wavenet.utils.safetensors_file import check_safetensors
from wavenet.utils.shared_constants import SILENCE_CODE
from wavenet.utils.strict_json import parse_json

METADATA_KEY = "wavenet.sampler"
COMPILED_DRAWS = ("categorical", "logistic_mixture", "gaussian_mixture")
WITHOUT_HOOK = {  # by the module of the hook
    "torch.nn.utils.weight_norm": "use torch.nn.utils.parametrizations.weight_norm, or call "
    "torch.nn.utils.remove_weight_norm(module) first",
    "torch.nn.utils.spectral_norm": "use torch.nn.utils.parametrizations.spectral_norm, or call "
    "torch.nn.utils.remove_spectral_norm(module) first",
    "torch.nn.utils.prune": "call torch.nn.utils.prune.remove(module, name) first",
}
NUMBERS_PER_COUNT = 4  # numbers that Philox returns per value of its counter


class ModelState(Protocol):
    """Queues and position of the model, in the layout of the backend that uses them."""

    position: int

    @property
    def batch_size(self) -> int:
        """Return the number of streams."""

    @property
    def nbytes(self) -> int:
        """Return the memory of the state."""

    def clone(self) -> "ModelState":
        """Return an independent copy."""

    def select(self, items: Sequence[int]) -> "ModelState":
        """Return an independent copy of some streams."""

    def to_wavenet_state(self) -> WaveNetState:
        """Return the state in the layout of `WaveNet.step`."""


@dataclass
class SamplerState:
    """State of a batch that is being generated.

    Attributes:
        model: Queues and position: one stream per item, two with classifier-free guidance.
        sample: Last sample of each item, `(B,)`.
        seeds: Noise seed of each item.
        num_generated: Samples generated so far.
        conditioning: Conditioning of the batch.
        guidance_scale: Scale of classifier-free guidance; 1 turns it off.
    """

    model: ModelState
    sample: Tensor
    seeds: tuple[int, ...]
    num_generated: int = 0
    conditioning: ConditioningBuffer = field(default_factory=ConditioningBuffer)
    guidance_scale: float = 1.0

    @property
    def streams_per_item(self) -> int:
        """Streams that the model computes per item: guidance adds an unconditional one."""
        return streams_per_item(self.guidance_scale)

    def next_local_conditioning(self, model: WaveNet, length: int) -> LocalConditioning | None:
        """Return the local conditioning of each stream's next samples."""
        local = self.conditioning.of_samples(model, self.model.position, length)
        if local is None or self.streams_per_item == 1:
            return local
        return local.repeat_streams(self.streams_per_item)

    def check_covered(self, model: WaveNet, length: int) -> None:
        """Raise a `ValueError` if frames for the next `length` samples are missing."""
        self.conditioning.check_covered(model, self.model.position + length)

    def clone(self) -> "SamplerState":
        """Return an independent copy."""
        return dataclasses.replace(
            self,
            model=self.model.clone(),
            sample=self.sample.clone(),
            conditioning=self.conditioning.clone(),
        )

    def select(self, items: Sequence[int]) -> "SamplerState":
        """Return an independent copy of some items of the batch."""
        chosen, per_item = list(items), self.streams_per_item
        streams = [per_item * item + stream for item in chosen for stream in range(per_item)]
        return dataclasses.replace(
            self,
            model=self.model.select(streams),
            sample=self.sample[chosen],
            seeds=tuple(self.seeds[item] for item in chosen),
            conditioning=self.conditioning.select(chosen, streams),
        )

    def save(self, path: Path | str) -> None:
        """Write the state to a safetensors file, atomically; every backend can continue it."""
        queues, conditioning = self.model.to_wavenet_state().queues, self.conditioning
        tensors = {f"queue.{index}": queue.contiguous() for index, queue in enumerate(queues)}
        tensors["sample"] = self.sample.contiguous()
        for name in ("global_conditioning", "frames"):
            if getattr(conditioning, name) is not None:
                tensors[name] = getattr(conditioning, name).contiguous()
        numbers = {
            "position": self.model.position,
            "num_generated": self.num_generated,
            "seeds": self.seeds,
            "guidance_scale": self.guidance_scale,
            "first_frame": conditioning.first_frame,
            "expects_more": conditioning.expects_more,
        }
        with atomic_file(Path(path)) as temporary:
            temporary.write_bytes(serialize(tensors, {METADATA_KEY: json.dumps(numbers)}))

    @classmethod
    def load(cls, path: Path | str) -> "SamplerState":
        """Read a state that `save` wrote.

        Raises:
            CheckpointError: The file is not a sampler state, or is truncated or corrupt.
        """
        try:
            check_safetensors(Path(path))
            with safe_open(path, framework="pt") as file:
                numbers = parse_json((file.metadata() or {})[METADATA_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            num_queues = sum(name.startswith("queue.") for name in tensors)
            queues = [tensors[f"queue.{index}"] for index in range(num_queues)]
            conditioning = ConditioningBuffer(
                tensors.get("global_conditioning"),
                tensors.get("frames"),
                _sample_count(numbers["first_frame"]),
                numbers["expects_more"] is True,
            )
            state = cls(
                WaveNetState(queues, _sample_count(numbers["position"])),
                tensors["sample"],
                check_seeds(numbers["seeds"], len(numbers["seeds"])),
                _sample_count(numbers["num_generated"]),
                conditioning,
                float(numbers["guidance_scale"]),
            )
            check_batch(state)
            if not bool((state.sample.abs() <= 1).all()):
                raise ValueError("its last samples are not in -1 to 1")
            return state
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{printable(path)} is not a sampler state, or is truncated or corrupt: "
                f"{printable(error)}"
            ) from error


def uniforms(seeds: Sequence[int], start: int, length: int, num_noise: int = 1) -> Tensor:
    """Return the noise of samples `start` to `start + length` of each item.

    Args:
        seeds: One per item, each from 0 to 2**64 - 1.
        start: First sample.
        length: Number of samples.
        num_noise: Uniforms that one sample uses, `K`.

    Returns:
        Multiples of 2**-24 in [0, 1), float32 `(B, length, K)`.
    """
    first, count = start * num_noise, length * num_noise
    skipped = first % NUMBERS_PER_COUNT
    noise = np.empty((len(seeds), count), np.float32)
    generator = Philox(key=0, counter=first // NUMBERS_PER_COUNT)
    start_state = generator.state
    for item, seed in enumerate(seeds):
        start_state["state"]["key"][0] = seed  # a new generator would take three times as long
        generator.state = start_state
        words = generator.random_raw(skipped + count)[skipped:]
        noise[item] = (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return torch.from_numpy(noise.reshape(len(seeds), length, num_noise))


def signals_like(model: WaveNet) -> Tensor:
    """Return a tensor in the dtype of a model's signals, float32 at least, on its device."""
    return widen(next(model.parameters()).new_zeros(0))


def streams_per_item(guidance_scale: float) -> int:
    """Return 2 with classifier-free guidance (conditional, unconditional), 1 without."""
    return 1 if guidance_scale == 1.0 else 2


def check_batch(state: SamplerState) -> None:
    """Raise unless all parts of a state have the same number of items."""
    streams, items = state.model.batch_size, len(state.seeds)
    found = streams / state.streams_per_item, len(state.sample), items
    if len(set(found)) > 1:
        raise ValueError(
            "the state has queues of {:g}, samples of {} and seeds of {} items".format(*found)
        )
    for name, tensor, wanted in (
        ("global conditioning", state.conditioning.global_conditioning, streams),
        ("frames", state.conditioning.frames, items),
    ):
        if tensor is not None and len(tensor) != wanted:
            raise ValueError(f"the state has {name} of batch size {len(tensor)}, wanted {wanted}")


def check_steps(model: WaveNet) -> None:
    """Raise a `ConfigError` if `step` would leave out what a call of the model's modules does."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) or hasattr(module, "step"):
            try:
                _check_weights(module, name)
                check_step_is_whole(module, name or "the model")
            except ValueError as error:
                raise ConfigError(f"no sampler computes this model: {error}") from error


def _check_weights(module: nn.Module, name: str) -> None:
    """Raise a `ValueError` if a hook computes a weight of `module`, and say how to do without."""
    for hook in module._forward_pre_hooks.values():
        for kind in type(hook).__mro__:
            if instead := WITHOUT_HOOK.get(kind.__module__):
                raise ValueError(
                    f"{name} computes its weight by a hook, which step would leave out: {instead}"
                )


def unsupported_model(model: WaveNet) -> str | None:
    """Return why the samplers that know the standard model only cannot compute `model`."""
    reason = model.nonstandard_part()
    if reason is None and model.distribution.compiled_draw not in COMPILED_DRAWS:
        kind = type(model.distribution).__name__
        reason = f"distribution {kind} has compiled_draw={model.distribution.compiled_draw!r}"
    return reason


def check_standard_model(model: WaveNet, backend: str) -> None:
    """Raise unless `backend`, which knows the standard model only, can compute `model`.

    Raises:
        CheckpointError: A weight is NaN or infinite.
        ConfigError: The model is not the standard one; the message names the first difference.
    """
    if reason := unsupported_model(model):
        raise ConfigError(
            f"backend={backend} computes the standard WaveNet only, but {reason}: use "
            "backend=reference"
        )
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise CheckpointError(f"{name} contains NaN or infinity: the weights are damaged")


def check_model_state(state: WaveNetState, model: WaveNet) -> None:
    """Raise unless `state` fits the queues and classes of `model`."""
    first, num_classes = state.queues[0], model.config.quantization_channels
    if not first.is_floating_point() and not bool(
        ((first >= SILENCE_CODE) & (first < num_classes)).all()
    ):
        raise ValueError(f"the state is another model's: classes outside of {num_classes}")
    wanted = [tuple(queue.shape[1:]) for queue in model.new_state(1).queues]
    found = [tuple(queue.shape[1:]) for queue in state.queues]
    if found != wanted:
        raise ValueError(f"the state is another model's: queues {found}, this model has {wanted}")


def to_model(state: WaveNetState, model: WaveNet) -> WaveNetState:
    """Return a checked state in the dtype and on the device of `model`."""
    check_model_state(state, model)
    wanted = model.new_state(1).queues  # the predictor's is float32 in models of every dtype
    queues = [queue.to(own) for queue, own in zip(state.queues, wanted, strict=True)]
    return WaveNetState(queues, state.position)


def _sample_count(number: object) -> int:
    count = operator.index(number)  # type: ignore[arg-type]
    if not 0 <= count < 2**62:
        raise ValueError(f"{count} is not a number of samples")
    return count
