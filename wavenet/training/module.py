"""One update of the weights: loss, optimiser, schedule and the average of weights.

Everything that an update depends on is in the module's checkpoint: weights, their average, the
optimiser's and the schedule's state, and the state of torch's random numbers (dropout).
"""

import copy
import logging
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.features.frames import Features
from wavenet.model import WaveNet
from wavenet.modules import ResidualStack
from wavenet.training.distributed.launcher import Launch
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.nonfinite import first_nonfinite
from wavenet.training.options import OptimOptions
from wavenet.utils.errors import ConfigError

Batch = dict[str, Tensor]
MOST_SKIPPED = 20  # updates in a row
log = logging.getLogger("wavenet")


class TrainingModule(pl.LightningModule):
    """A `WaveNet` and how it learns.

    Args:
        model: Whose weights are trained.
        optim: Optimiser, schedule and averaging.
        max_steps: Updates in all, where the schedule ends.
        audio: What conditions the signal.
        team: The processes that train it; absent for this one alone.
        on_nonfinite: What becomes of an update whose gradient is not finite.
        compiled: Have `torch.compile` fuse what is around the stack.

    Attributes:
        skipped: Updates that were left out, in all.
        skipped_in_a_row: Those since the last one that was made.
    """

    def __init__(
        self,
        model: WaveNet,
        optim: OptimOptions,
        max_steps: int,
        audio: AudioConfig | None = None,
        team: ProcessGroup | None = None,
        *,
        on_nonfinite: Literal["stop", "skip"] = "stop",
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.features = Features(audio)
        self.optim = optim
        self.max_steps = max_steps
        self.on_nonfinite = on_nonfinite
        self.losses: list[Tensor] = []  # of the batches of the update under way
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.average: WaveNet | None = None
        if optim.ema_decay is not None:
            self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.nll = compiled_nll(model) if compiled else model.nll
        self.team = ProcessGroup(Launch()) if team is None else team
        self.random_state: Tensor | None = None
        self.data_digest = ""

    @property
    def exported(self) -> WaveNet:
        """The model that is validated and exported: the average where there is one."""
        return self.model if self.average is None else self.average

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the negative log-likelihood of the batch's counted samples, in nats.

        It is a mean such that the mean over all batches of an update is that over its samples.
        """
        nll = self.nll(batch["waveform"], **self.features(batch))
        loss = masked_mean(nll, batch["mask"], batch["count"])
        self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self) -> Any:
        """Return the optimiser, and the schedule that moves with every update."""
        optim = self.optim
        optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=optim.lr,
            betas=(optim.betas[0], optim.betas[1]),
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            decoupled_weight_decay=optim.decoupled_weight_decay,  # as AdamW
            fused=True,  # all weights in one go
        )
        factor = rate_factor(optim, self.max_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Shorten the gradient; Lightning's own way refuses optimisers that are fused."""
        if self.optim.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.max_grad_norm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights, then their average."""
        super().optimizer_step(*args, **kwargs)
        if self.average is None or self.optim.ema_decay is None or self.skipped_in_a_row:
            return
        step = self.global_step
        decay = min(self.optim.ema_decay, (1 + step) / (10 + step))  # forget the start soon
        with torch.no_grad():
            average: list[Tensor] = list(self.average.parameters())
            weights: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(average, weights, 1 - decay)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the gradients, all batches of an update summed: one that is not finite is no use.

        Raises:
            ConfigError: One is not finite, and training is to stop then.
        """
        losses, self.losses = self.losses, []
        named = self.model.named_parameters()
        gradients = {name: weight.grad for name, weight in named if weight.grad is not None}
        name = first_nonfinite(gradients)
        if name is None:
            self.skipped_in_a_row = 0
            return
        loss = float(torch.stack(losses).mean()) if losses else math.nan
        found = (
            f"gradient of {name} is not finite at step {self.global_step + 1}, where the loss is "
            f"{loss:.4g}"
        )
        way_out = "start again with a lower optim.lr or optim.max_grad_norm"
        if self.on_nonfinite == "stop":
            raise ConfigError(
                f"{found}: training diverged; {way_out}, or go on with trainer.on_nonfinite=skip"
            )
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= MOST_SKIPPED:
            raise ConfigError(f"{found}: {MOST_SKIPPED} updates in a row were left out; {way_out}")
        log.warning("warning: %s: the update is left out (%d so far)", found, self.skipped)
        for weight in self.model.parameters():
            weight.grad = None  # so that the optimiser has nothing to do

    def check_finite(self) -> None:
        """Look at all that a save holds.

        Raises:
            ConfigError: Weights, their average or the optimiser's moments are not finite.
        """
        tensors: dict[str, Tensor] = dict(self.model.named_parameters())
        names: dict[Tensor, str] = {weight: name for name, weight in tensors.items()}
        if self.average is not None:
            averages = self.average.named_parameters()
            tensors.update({f"average of {name}": tensor for name, tensor in averages})
        for optimizer in self.trainer.optimizers:
            for weight, state in optimizer.state.items():
                moments = {kind: value for kind, value in state.items() if kind != "step"}
                tensors.update({f"{kind} of {names[weight]}": t for kind, t in moments.items()})
        name = first_nonfinite(tensors)
        if name is not None:
            raise ConfigError(
                f"{name} is not finite at step {self.global_step}: training diverged, and nothing "
                "is written over what was saved before; start again with a lower optim.lr or "
                "optim.max_grad_norm"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the random numbers' state, and what else must be the same when the run goes on."""
        checkpoint["random_states"] = self.team.gather(torch.get_rng_state())
        checkpoint["threads"] = torch.get_num_threads()
        checkpoint["data"] = self.data_digest
        checkpoint["skipped"] = (self.skipped, self.skipped_in_a_row)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random numbers until training starts; go on counting."""
        states = checkpoint["random_states"]
        if len(states) == self.team.size:
            self.random_state = states[self.team.rank]
        else:
            torch.manual_seed(seed_of(torch.initial_seed(), checkpoint["global_step"]))
        self.skipped, self.skipped_in_a_row = checkpoint["skipped"]

    def on_train_start(self) -> None:
        """Go on with the random numbers where the checkpoint left them."""
        if self.random_state is not None:
            torch.set_rng_state(self.random_state.cpu())


def compiled_nll(model: WaveNet) -> Callable[..., Tensor]:
    """Return a model's `nll` with what is around its stacks compiled: those are written out."""
    for module in model.modules():
        if isinstance(module, ResidualStack):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore
    return torch.compile(model.nll)


def masked_mean(values: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """Return the sum of `values` where `mask` is true, both `(B, T)`, over `count`."""
    return (values * mask).sum() / count


def seed_of(*numbers: int) -> int:
    """Return the seed of a stream of random numbers that is like that of no other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def rate_factor(optim: OptimOptions, max_steps: int) -> Callable[[int], float]:
    """Return the learning rate over `optim.lr` as a function of the updates made."""

    def factor(step: int) -> float:
        warmup = min((step + 1) / (optim.warmup_steps + 1), 1.0)
        after = max(step - optim.warmup_steps, 0) / max(max_steps - optim.warmup_steps, 1)
        ratio, after = optim.min_lr_ratio, min(after, 1.0)
        if optim.lr_schedule == "cosine":
            return warmup * (ratio + (1 - ratio) * (1 + math.cos(math.pi * after)) / 2)
        if optim.lr_schedule == "exponential":
            return float(warmup * ratio**after)
        return warmup

    return factor
