"""Checks of what a block is given, and the sentences of their errors."""

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.modules.standard import beyond_step, kind

NEW_QUEUES = "begin with new_queues, or a block's new_queue, of this batch size"


def check_step_is_whole(module: nn.Module, name: str | None = None) -> None:
    """Raise a `ValueError` if a call of `module` does what its `step` would leave out."""
    missing = beyond_step(module)
    if missing is not None:
        raise ValueError(
            f"{name or f'the {kind(module)}'} {missing}, which step would leave out: override step "
            "as well, or call forward on all samples"
        )


def check_tensor(name: str, found: Any) -> None:
    """Raise a `TypeError` unless `found` is a tensor, or `None`."""
    if found is not None and not isinstance(found, Tensor):
        raise TypeError(
            f"{name} must be a tensor, got {type(found).__name__}: use torch.from_numpy(x) for a "
            "NumPy array"
        )


def check_dtype(x: Tensor, conv: nn.Conv1d, name: str = "the input") -> None:
    """Raise a `ValueError` unless `x` has the dtype of a convolution's weights, or autocast's.

    A compiler sees dtypes by itself; a parametrized weight, and a convolution whose hooks may
    convert its input or weights, are left aside.
    """
    if isinstance(x, torch.fx.Proxy):
        return
    check_tensor(name, x)
    dtypes = [own.dtype for own in conv._parameters.values() if own is not None]
    if not dtypes or x.dtype in dtypes or torch.compiler.is_compiling():
        return
    if not (conv._forward_pre_hooks or torch.is_autocast_enabled(x.device.type)):
        raise ValueError(
            f"{name} must be of the weights' dtype, {dtypes[0]}, got {x.dtype}: convert it, or "
            "the module, with .to()"
        )


def check_classes(found: Any) -> None:
    """Raise a `ValueError` unless `found` is a tensor of whole numbers, as a look-up takes it."""
    if isinstance(found, torch.fx.Proxy):
        return
    check_tensor("the input", found)
    if found.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"the input must be classes, int64, got {found.dtype}: encode a signal with the "
            "distribution's encode"
        )


def check_position(position: Any) -> None:
    """Raise a `ValueError` unless `position` is a whole number, 0 or more, or a tensor of one.

    The value of a tensor is not looked at, which would break a graph and wait for a GPU.
    """
    if isinstance(position, Tensor):
        is_number = not (position.dim() or position.is_floating_point() or position.is_complex())
    else:
        is_number = isinstance(position, (int, torch.SymInt)) or hasattr(position, "__index__")
        is_number = is_number and position >= 0
    if not is_number:
        raise ValueError(f"position must be a whole number, 0 or more, got {position!r}")


def check_prefill(x: Tensor, queue: Tensor, position: Any) -> None:
    """Raise a `ValueError` unless `x`, `(B, ..., T)`, may end right before `position`."""
    check_tensor("the input", x)
    check_tensor("the queue", queue)
    check_position(position)
    check_batch(x, queue)
    if x.shape[:-1] != queue.shape[:-1]:
        wanted = ", ".join(map(str, (*queue.shape[:-1], "T")))
        raise ValueError(f"the input must be ({wanted}), as the queue, got {tuple(x.shape)}")
    if not isinstance(position, Tensor) and x.shape[-1] > position:
        raise ValueError(
            f"position must be the number of samples before the next step, {x.shape[-1]} or more "
            f"after an input of {x.shape[-1]} samples, got {position}"
        )


def check_batch(x: Tensor, queue: Tensor) -> None:
    """Raise a `ValueError` unless a queue has the batch size of `x`."""
    if len(queue) != len(x):
        raise ValueError(
            f"the queue must be of the input's batch size, {len(x)}, got {len(queue)}: {NEW_QUEUES}"
        )


def check_input(x: Tensor) -> None:
    """Raise a `ValueError` unless `x` is `(B, C, T)`, of one sample or more."""
    check_tensor("the input", x)
    if x.dim() != 3:
        raise ValueError(f"the input must be (B, C, T), got {tuple(x.shape)}")
    if x.shape[2] == 0:
        raise ValueError(f"the input must have one sample or more, got {tuple(x.shape)}, T = 0")


def check_step(
    x: Tensor, widths: tuple[int, ...], queue: Tensor, memory: int, position: Any
) -> None:
    """Raise a `ValueError` unless `x` is one sample, `(B, *widths)`, and the queue fits it."""
    check_tensor("the input of a step", x)
    check_tensor("the queue", queue)
    check_position(position)
    if x.dim() != 1 + len(widths) or x.shape[1:] != widths:
        wanted = ", ".join(map(str, ("B", *widths)))
        raise ValueError(
            f"the input of a step must be ({wanted}{'' if widths else ','}), got {tuple(x.shape)}"
        )
    if queue.shape != (*x.shape, memory):
        check_batch(x, queue)
        raise ValueError(
            f"the queue must be {(*x.shape, memory)}, got {tuple(queue.shape)}: {NEW_QUEUES}"
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


def check_finite_numbers(**values: Any) -> None:
    """Raise a `ValueError` unless each of the named values is a finite number, or a tensor.

    A tensor may be learned; its value is not looked at, which would wait for a GPU.
    """
    for name, value in values.items():
        is_finite = isinstance(value, numbers.Real) and math.isfinite(value)
        if not (is_finite or isinstance(value, Tensor)):
            raise ValueError(f"{name} must be a finite number, got {value!r}")


def check_probability(name: str, value: Any) -> None:
    """Raise a `ValueError` unless `value` is a number from 0 to 1."""
    if not (isinstance(value, numbers.Real) and 0 <= float(value) <= 1):
        raise ValueError(f"{name} must be a probability, 0 to 1, got {value!r}")


def check_signal(name: str, found: Tensor | None, channels: int | None, x: Tensor) -> None:
    """Raise a `ValueError` unless `found` has `channels` channels for every sample of `x`, or one.

    `channels` is `None` where there must be none; `x` is `(B, C, T)`, or one sample, `(B, C)`.
    """
    if found is None and channels is None:
        return
    check_tensor(name, found)
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
    check_tensor(name, found)
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
    check_tensor(name, chunk)
    if chunk.dim() != 3 or chunk.shape[:2] != like.shape[:2]:
        wanted = f"({like.shape[0]}, {like.shape[1]}, any length)"
        raise ValueError(f"{name} must be {wanted}, got {tuple(chunk.shape)}")
