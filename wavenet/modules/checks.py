"""Checks of what a block is given, and the sentences of their errors."""

import operator
from collections.abc import Iterable
from typing import Any

from torch import Tensor


def check_input(x: Tensor) -> None:
    """Raise a `ValueError` unless `x` is `(B, C, T)`, of one sample or more."""
    if x.dim() != 3:
        raise ValueError(f"the input must be (B, C, T), got {tuple(x.shape)}")
    if x.shape[2] == 0:
        raise ValueError(f"the input must have one sample or more, got {tuple(x.shape)}, T = 0")


def check_step(x: Tensor, widths: tuple[int, ...], queue: Tensor, memory: int) -> None:
    """Raise a `ValueError` unless `x` is one sample, `(B, *widths)`, and the queue fits it."""
    if x.dim() != 1 + len(widths) or x.shape[1:] != widths:
        wanted = ", ".join(map(str, ("B", *widths)))
        raise ValueError(
            f"the input of a step must be ({wanted}{'' if widths else ','}), got {tuple(x.shape)}"
        )
    if queue.shape != (*x.shape, memory):
        found = f"the queue must be {(*x.shape, memory)}, got {tuple(queue.shape)}"
        if len(queue) != len(x):
            found = f"the queue must be of the input's batch size, {len(x)}, got {len(queue)}"
        raise ValueError(
            f"{found}: begin with new_queues, or a block's new_queue, of this batch size"
        )


def whole_numbers(name: str, values: Any, least: int) -> tuple[int, ...]:
    """Return `values`, whole numbers of any type, as `int`s.

    Raises:
        ValueError: There is something else, or a number below `least`.
    """
    try:
        numbers = tuple(operator.index(value) for value in values)
    except TypeError:
        raise ValueError(f"{name} must be whole numbers, in a sequence, got {values!r}") from None
    if min(numbers, default=least) < least:
        raise ValueError(f"{name} must be {least} or more, got {numbers}")
    return numbers


def check_sizes(least: int, **sizes: Any) -> None:
    """Raise a `ValueError` unless each of the named sizes is a whole number, `least` or more."""
    for name, size in sizes.items():
        if not hasattr(size, "__index__") or size < least:
            raise ValueError(f"{name} must be a whole number, {least} or more, got {size!r}")


def check_signal(name: str, found: Tensor | None, channels: int | None, x: Tensor) -> None:
    """Raise a `ValueError` unless `found` has `channels` channels for every sample of `x`, or one.

    `channels` is `None` where there must be none; `x` is `(B, C, T)`, or one sample, `(B, C)`.
    """
    if found is None and channels is None:
        return
    if found is None or channels is None:
        given = "none" if found is None else tuple(found.shape)
        wanted = "left out" if channels is None else f"(B, {channels}{', T' * (x.dim() == 3)})"
        raise ValueError(f"{name} must be {wanted}, got {given}")
    expected = (x.shape[0], channels, *x.shape[2:])
    matches = found.dim() == x.dim() and found.shape[:2] == expected[:2]
    if not matches or (x.dim() == 3 and found.shape[2] not in (1, x.shape[2])):
        raise ValueError(f"{name} must be {expected}, got {tuple(found.shape)}")


def check_vector(name: str, found: Tensor | None, channels: int | None, x: Tensor) -> None:
    """Raise a `ValueError` unless `found` is `(B, channels)`; `None` where there must be none."""
    expected = None if channels is None else (x.shape[0], channels)
    shape = None if found is None else tuple(found.shape)
    if shape != expected:
        raise ValueError(f"{name} must be {expected or 'left out'}, got {shape or 'none'}")


def one_of(names: Iterable[str]) -> str:
    """Return the names as a list in a message."""
    return ", ".join(names)


def check_chunk(name: str, chunk: Tensor, like: Tensor, flushed: bool) -> None:
    """Raise a `ValueError` unless a stream of signals like `like`, `(B, C, T)`, takes a chunk."""
    if flushed:
        raise ValueError("the stream was flushed: start the next signal with new_state")
    if chunk.dim() != 3 or chunk.shape[:2] != like.shape[:2]:
        wanted = f"({like.shape[0]}, {like.shape[1]}, any length)"
        raise ValueError(f"{name} must be {wanted}, got {tuple(chunk.shape)}")
