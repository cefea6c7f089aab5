"""What all processes agree on at each update: its gradients, its loss, whether to stop.

A signal reaches the processes at different updates, or only one of them. So a process that was
asked to stop reports it at the end of its update, or of its window of a validation that the
processes share, and all stop there.

Gradients are averaged after the backward pass, not during it: the model is small compared to what
it computes, so overlapping the two gains nothing.
"""

import signal
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.signals import StopFlag


class GradientSync:
    """Averages over the processes, and the stop flag that they share.

    Args:
        group: The processes.
        own_stop: Set by a signal to this process.

    Attributes:
        stop: Set in all processes after the same update, once any process got a signal.
    """

    def __init__(self, group: ProcessGroup, own_stop: StopFlag) -> None:
        self.group = group
        self.own_stop = own_stop
        self.stop = own_stop if group.size == 1 else StopFlag()
        self.rank = group.rank
        self.size = group.size

    def average_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Replace each gradient by its mean over the processes."""
        if self.group.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.group.all_reduce_mean([p.grad for p in trained if p.grad is not None])

    def mean_loss(self, losses: list[float]) -> float:
        """Return the mean loss of an update's batches in all processes; share the stop flag."""
        own = torch.tensor([sum(losses) / len(losses)], dtype=torch.float64)
        return float(torch.cat(self.gather(own)).mean())

    def agree_to_stop(self) -> None:
        """Set `stop` in all processes if any process got a signal."""
        self.gather(torch.zeros(0, dtype=torch.float64))

    def gather(self, own: Tensor) -> list[Tensor]:
        """Return every process's tensor, float64 `(N,)`, by rank; share the stop flag."""
        number = torch.tensor([self.own_stop.signal or 0], dtype=torch.float64)
        gathered = self.group.all_gather(torch.cat([own, number]))
        received = max(int(tensor[-1]) for tensor in gathered)
        if received and not self.stop:
            self.stop.signal = signal.Signals(received)
        return [tensor[:-1] for tensor in gathered]
