"""Validation of the arguments of a `Sampler`: its model; seeds, prompts and noise per item."""

import operator
from collections.abc import Sequence

from torch import Tensor

from wavenet.model import WaveNet
from wavenet.sampling.noise import uniforms

COMPILED_DRAWS = ("categorical", "logistic_mixture", "gaussian_mixture")


def unsupported_by_cpu(model: WaveNet) -> str | None:
    """Return why the CPU sampler, which knows the standard model only, cannot compute `model`."""
    reason = model.nonstandard_part()
    if reason is None and model.distribution.compiled_draw not in COMPILED_DRAWS:
        kind = type(model.distribution).__name__
        reason = f"distribution {kind} has compiled_draw={model.distribution.compiled_draw!r}"
    return reason


def check_seeds(seed: int | Sequence[int], batch_size: int) -> tuple[int, ...]:
    """Return one seed per item: `seed + i`, or the given ones."""
    if isinstance(seed, Sequence):
        seeds = [operator.index(entry) for entry in seed]
    else:
        seeds = [operator.index(seed) + item for item in range(batch_size)]
    if len(seeds) != batch_size:
        raise ValueError(
            f"seed must be one number or one per item ({batch_size}), got {len(seeds)}"
        )
    if any(not 0 <= entry < 2**64 for entry in seeds):
        raise ValueError(f"seeds must be from 0 to 2**64 - 1, got {seeds}")
    return tuple(seeds)


def check_noise(noise: Tensor | None, seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Return noise `(length, K)` for every seed, `(B, length, K)`: the given one, or the seeds'.

    Args:
        noise: Uniforms of [0, 1] with that shape, if given.
        seeds: One per item.
        shape: First sample, number of samples, and uniforms per sample.
    """
    start, length, num_noise = shape
    if noise is None:
        return uniforms(seeds, start, length, num_noise)
    wanted = (len(seeds), length, num_noise)
    if tuple(noise.shape) != wanted:
        raise ValueError(f"noise must have shape {wanted}, got {tuple(noise.shape)}")
    if not bool(((noise >= 0) & (noise <= 1)).all()):
        raise ValueError("noise must be numbers from 0 to 1")
    return noise


def check_prompt(prompt: Tensor, batch_size: int) -> Tensor:
    """Return one prompt per item, `(B, T)`, from `(B, T)`, `(1, T)` or `(T,)`."""
    prompts = prompt if prompt.dim() == 2 else prompt.unsqueeze(0)
    if prompts.dim() != 2 or prompts.shape[0] not in (1, batch_size):
        wanted = f"(T,), (1, T) or ({batch_size}, T)"
        raise ValueError(f"prompt must have shape {wanted}, got {tuple(prompt.shape)}")
    if not bool((prompts.abs() <= 1).all()):
        raise ValueError("prompt must be samples in [-1, 1]")
    return prompts.expand(batch_size, -1)


def check_length(length: int | None, available: int | None) -> int:
    """Return the number of samples to generate: `length`, or as many as the frames cover."""
    length = available if length is None else length
    if length is None:
        raise ValueError("length is required: the model has no frames that determine it")
    if length < 0:
        raise ValueError(f"length must be 0 or more, got {length}")
    return length
