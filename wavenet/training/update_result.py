"""What an update tells: its loss, the norm of its gradients, and which of them was not finite.

A CPU that reads a number of a GPU waits until it is computed, and the GPU then waits for the next
launch. So the numbers travel to the CPU while it launches the next update, and are read after that.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wavenet.training.distributed.process_group import ProcessGroup


class UpdateResult:
    """Losses and largest gradients of an update, which the device may still compute.

    Args:
        step: Number of the update, from 1.
        gradients: By the name of the weight.
        losses: Of the update's batches, in nats.
        norm: Of all gradients together, `()`, before clipping.
    """

    def __init__(
        self, step: int, gradients: Mapping[str, Tensor], losses: Sequence[Tensor], norm: Tensor
    ) -> None:
        self.step = step
        self._names = [name for name, gradient in gradients.items() if gradient.numel()]
        self._largest = largest_magnitudes([gradients[name] for name in self._names])
        numbers = torch.stack([*self._largest, *losses, norm])
        self._numbers = numbers.to("cpu", non_blocking=True)  # to pinned memory
        self._event = None
        if numbers.device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def skip(self) -> Tensor:
        """Return on the device whether the update is to be skipped, float32 `()`: 1 or 0."""
        return 1 - torch.stack(self._largest).isfinite().all().float()

    def wait(self, group: ProcessGroup) -> None:
        """Wait until the numbers have arrived.

        Raises:
            PeerLostError: Another process of the group did not take part in the update.
        """
        if self._event is not None:
            group.wait(self._event)
            self._event = None

    @property
    def losses(self) -> list[float]:
        """Losses of the update's batches, in nats."""
        losses: list[float] = self._numbers[len(self._names) : -1].tolist()
        return losses

    @property
    def gradient_norm(self) -> float:
        """Norm of all gradients together, before clipping."""
        return float(self._numbers[-1])

    @property
    def nonfinite(self) -> str | None:
        """Name of the first weight whose gradient holds NaN or infinity, if any."""
        largest = self._numbers[: len(self._names)].tolist()
        pairs = zip(self._names, largest, strict=True)
        return next((name for name, number in pairs if not math.isfinite(number)), None)


def largest_magnitudes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the largest magnitude in each tensor, `()`; NaN if NaN is in it."""
    return [*torch._foreach_norm([*tensors], math.inf)] if tensors else []  # it cannot overflow
