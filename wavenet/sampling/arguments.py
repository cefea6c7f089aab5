"""What the methods of a sampler share: how a signal starts, and that nothing is differentiated."""

from __future__ import annotations  # help() shows Array by its name

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypedDict, TypeVar

import torch

from wavenet.utils.arrays import Array
from wavenet.utils.precision import float32_products

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class StartArguments(TypedDict, total=False):
    """What every signal may start from: arguments of `Sampler.init_state`, explained there."""

    prompt: Array | None
    seed: int | Sequence[int] | Array
    local: Array | None
    speaker: Array | None
    vector: Array | None
    guidance_scale: float


def with_arguments_of(
    start: Callable[..., object],
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Show `**start` of a method in `help()` as the `StartArguments` of `Sampler.init_state`."""
    known = inspect.signature(start).parameters
    start_arguments = [
        known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name in StartArguments.__annotations__
    ]

    def show(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(method)
        own = [one for one in signature.parameters.values() if one.name != "start"]
        shown: Any = method
        shown.__signature__ = signature.replace(parameters=[*own, *start_arguments])
        return method

    return show


def inference_in_float32(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compute a method of `Sampler` without gradients, and products on a GPU not in TF32."""

    @functools.wraps(method)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        sampler: Any = args[0]
        device = next(sampler.model.parameters()).device
        with torch.inference_mode(), float32_products(device):
            return method(*args, **kwargs)

    return wrapped
