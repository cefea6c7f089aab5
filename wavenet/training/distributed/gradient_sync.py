"""What all processes have in common at each update: its gradients, its loss, whether to stop.

Gradients are averaged as one long vector, the same one at every update. So each sum is rounded at
the same place, and a run that went on from a save has the bits of one that was not interrupted,
whatever the number of processes. The model is small beside what it computes: nothing is gained by
sending a part of it while the rest is not known yet.

A signal reaches processes at different updates, or only one of them; so a process that was asked to
stop says so at the end of its update, or of its window where a validation is shared out, and all
stop there.
"""

import signal
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.signals import StopFlag


class Updates(pl.Callback):
    """Comes before all other callbacks, which look at what it found.

    Args:
        team: The processes.
        asked: Set by a signal that came to this process.

    Attributes:
        stop: Set when any process was asked to stop, after the same update in all.
        nats: Loss of the last update, the mean over all that it counted.
    """

    def __init__(self, team: ProcessGroup, asked: StopFlag) -> None:
        self.team = team
        self.asked = asked
        self.rank = team.rank
        self.size = team.size
        self.stop = asked if team.size == 1 else StopFlag()
        self.nats = 0.0
        self.parts: list[float] = []
        self.seen = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the signals back from Lightning, which takes them when it starts."""
        self.seen = trainer.global_step
        self.asked.listen()
        self.team.align([weight.data for weight in module.parameters()])
        self.agree()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Average the gradients, before they are looked at, clipped and followed."""
        if self.team.size == 1:
            return
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.team.average([weight.grad for weight in weights if weight.grad is not None])

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Agree, where the batch was the last of its update."""
        self.parts.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        if trainer.global_step == self.seen:
            return
        self.seen = trainer.global_step
        own = torch.tensor([sum(self.parts) / len(self.parts)], dtype=torch.float64)
        self.parts = []
        self.nats = float(torch.cat(self.gather(own)).mean())

    def agree(self) -> None:
        """Stop all if one was asked to; all call it."""
        self.gather(torch.zeros(0, dtype=torch.float64))

    def gather(self, own: Tensor) -> list[Tensor]:
        """Return what each process gives, float64 `(N,)`, and stop all if one was asked to."""
        asked = torch.tensor([self.asked.signal or 0], dtype=torch.float64)
        everyone = self.team.gather(torch.cat([own, asked]))
        number = max(int(one[-1]) for one in everyone)
        if number and not self.stop:
            self.stop.signal = signal.Signals(number)
        return [one[:-1] for one in everyone]
