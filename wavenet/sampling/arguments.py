"""What the methods of a sampler share: their arguments and checks, and that no gradient is kept."""

from __future__ import annotations  # help() shows Array by its name

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypedDict, TypeVar

import numpy as np
import torch
from torch import Tensor

from wavenet.distributions import SamplingConfig
from wavenet.utils.arrays import (
    Array,
    as_optional_tensor,
    as_tensor,
    real_number,
    shown,
    whole_number,
)
from wavenet.utils.errors import printable
from wavenet.utils.precision import float32_products

LARGEST_NOISE = 1 - 2.0**-24  # below 1 in float32
HOW_TO_DRAW = {field.name for field in dataclasses.fields(SamplingConfig)}
HOW_TO_COMPUTE = ("backend", "num_threads", "weight_dtype", "streams")  # of make_sampler
SEEDS = "a whole number from 0 to 2**64 - 1, or one per item"
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class StartArguments(TypedDict, total=False):
    """What every signal may start from: arguments of `Sampler.init_state`, explained there."""

    prompt: Array | None
    seed: int | Sequence[int] | Array
    local: Array | None
    speaker: int | Array | None
    vector: Array | None
    guidance_scale: float


def with_arguments_of(
    start: Callable[..., object],
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Show `**start` of a method in `help()` as the `StartArguments` of `Sampler.init_state`.

    Other names are refused, see `check_names`.
    """
    known = inspect.signature(start).parameters
    start_arguments = [
        known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name in StartArguments.__annotations__
    ]

    def show(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(method)
        own = [one for one in signature.parameters.values() if one.name != "start"]

        @functools.wraps(method)
        def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            check_names(method.__name__, names, kwargs)
            return method(*args, **kwargs)

        shown: Any = checked
        shown.__signature__ = signature.replace(parameters=[*own, *start_arguments])
        names = tuple(shown.__signature__.parameters)
        return checked

    return show


def check_names(method: str, known: Iterable[str], given: Mapping[str, object]) -> None:
    """Raise a `TypeError` for an argument that a method of `Sampler` has not, and say who has."""
    for name, value in given.items():
        if name in known:
            continue
        text = f"{method}() got an unexpected keyword argument {name!r}"
        if name in HOW_TO_DRAW:
            value = printable(repr(value), 80)
            text += f": write sampling=wavenet.SamplingConfig({name}={value})"
            text += "" if "sampling" in known else " where samples are generated"
        elif name in HOW_TO_COMPUTE:
            text += ": it is one of wavenet.make_sampler"
        else:
            text += f": it takes {', '.join(one for one in known if one != 'self')}"
        raise TypeError(text)


def inference_in_float32(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compute a method of `Sampler` without gradients, and products on a GPU not in TF32.

    It has no other arguments than its own, see `check_names`.
    """
    names = tuple(inspect.signature(method).parameters)

    @functools.wraps(method)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        check_names(method.__name__, names, kwargs)
        sampler: Any = args[0]
        device = next(sampler.model.parameters()).device
        with torch.inference_mode(), float32_products(device):
            return method(*args, **kwargs)

    return wrapped


def check_count(name: str, value: Any, least: int) -> int:
    """Return a whole number of `least` or more."""
    number = whole_number(name, value)
    if number < least:
        raise ValueError(f"{name} must be {least} or more, got {number}")
    return number


def check_guidance_scale(value: Any) -> float:
    """Return a finite number."""
    number = real_number("guidance_scale", value)
    if not math.isfinite(number):
        raise ValueError(f"guidance_scale must be a finite number, got {number}")
    return number


def check_sampling(sampling: Any) -> None:
    """Raise unless `sampling` is a `SamplingConfig`."""
    if not isinstance(sampling, SamplingConfig):
        raise ValueError(f"sampling must be a SamplingConfig, got {shown(sampling)}")


def check_noise(noise: Array, sampler: object, wanted: tuple[int, int, int]) -> Tensor:
    """Return noise of the shape `wanted`, `(B, length, K)`, in [0, 1) as float32 has it."""
    noise = as_tensor("noise", noise, sampler, keep_double=True)
    if tuple(noise.shape) != wanted:
        raise ValueError(f"noise must have shape {wanted}, got {tuple(noise.shape)}")
    if not bool(((noise >= 0) & (noise < 1)).all()):
        low, high = noise.min().item(), noise.max().item()
        raise ValueError(f"noise must be numbers in [0, 1), got {low} to {high}")
    return noise.clamp(max=LARGEST_NOISE)  # float64 next to 1 would round to it


def check_seeds(seed: Any, batch_size: int) -> tuple[int, ...]:
    """Return one seed per item: `seed + i`, or the given ones."""
    if isinstance(seed, (Tensor, np.ndarray)):
        seed = seed.tolist()
    if isinstance(seed, Sequence) and not isinstance(seed, (str, bytes)):
        seeds = [whole_number("seed", entry, SEEDS) for entry in seed]
    else:
        first = whole_number("seed", seed, SEEDS)
        seeds = [first + item for item in range(batch_size)]
    if len(seeds) != batch_size:
        raise ValueError(
            f"seed must be one number or one per item ({batch_size}), got {len(seeds)}"
        )
    if any(not 0 <= entry < 2**64 for entry in seeds):
        raise ValueError(f"seeds must be from 0 to 2**64 - 1, got {seeds}")
    return tuple(seeds)


def check_finite(name: str, values: Tensor) -> None:
    """Raise a `ValueError` if conditioning holds NaN or infinity."""
    if not bool(values.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {tuple(values.shape)} with NaN or infinity")


def check_prompt(prompt: Tensor, batch_size: int) -> Tensor:
    """Return one prompt per item, `(B, T)`, from `(B, T)`, `(1, T)` or `(T,)`."""
    prompts = prompt if prompt.dim() == 2 else prompt.unsqueeze(0)
    if prompts.dim() != 2 or prompts.shape[0] not in (1, batch_size):
        wanted = "(T,) or (1, T)" if batch_size == 1 else f"(T,), (1, T) or ({batch_size}, T)"
        raise ValueError(f"prompt must have shape {wanted}, got {tuple(prompt.shape)}")
    if not bool((prompts.abs() <= 1).all()):
        raise ValueError("prompt must be samples in [-1, 1]")
    return prompts.expand(batch_size, -1)


def as_speakers(speaker: int | Array | None, sampler: object) -> Tensor | None:
    """Return speaker numbers as `as_tensor` does; a whole number is that of all items."""
    if isinstance(speaker, (int, np.integer)):
        speaker = np.array([speaker])
    return as_optional_tensor("speaker", speaker, sampler)


def for_all_items(name: str, values: Tensor, batch_size: int, dims: int) -> Tensor:
    """Return what is given per item, of `dims` axes with that of the batch, for a whole batch.

    What is given once, without that axis or with an axis of 1, is that of all items.
    """
    if values.dim() == dims - 1:
        values = values.unsqueeze(0)
    if values.dim() != dims or len(values) not in (1, batch_size):
        raise ValueError(
            f"{name} must be given once or per item ({batch_size}), got {tuple(values.shape)}"
        )
    return values.expand(batch_size, *values.shape[1:])
