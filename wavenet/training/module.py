"""One update of the weights: loss, optimiser, schedule and the average of weights.

Everything that an update depends on is in the module's checkpoint: weights, their average, the
optimiser's and the schedule's state, and the state of torch's random numbers (dropout).
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from wavenet.config import AudioConfig
from wavenet.data.features import Features
from wavenet.errors import ConfigError
from wavenet.model import WaveNet
from wavenet.modules import ResidualStack
from wavenet.training.launch import Launch
from wavenet.training.options import OptimOptions
from wavenet.training.team import Team

Batch = dict[str, Tensor]


class TrainingModule(pl.LightningModule):
    """A `WaveNet` and how it learns.

    Args:
        model: Whose weights are trained.
        optim: Optimiser, schedule and averaging.
        max_steps: Updates in all, where the schedule ends.
        audio: What conditions the signal.
        team: The processes that train it; absent for this one alone.
        compiled: Have `torch.compile` fuse what is around the stack.
    """

    def __init__(
        self,
        model: WaveNet,
        optim: OptimOptions,
        max_steps: int,
        audio: AudioConfig | None = None,
        team: Team | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.features = Features(audio)
        self.optim = optim
        self.max_steps = max_steps
        self.average: WaveNet | None = None
        if optim.ema_decay is not None:
            self.average = copy.deepcopy(model).requires_grad_(False).eval()
        self.nll = compiled_nll(model) if compiled else model.nll
        self.team = Team(Launch()) if team is None else team
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
        if not bool(loss.isfinite()):
            raise ConfigError(
                f"the loss is {loss.item()} at step {self.global_step}: training diverged; start "
                "again with a lower optim.lr or optim.clip_norm"
            )
        return loss

    def configure_optimizers(self) -> Any:
        """Return the optimiser, and the schedule that moves with every update."""
        optim = self.optim
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optim.name]
        optimizer = kind(
            self.model.parameters(),
            lr=optim.lr,
            betas=(optim.betas[0], optim.betas[1]),
            eps=optim.eps,
            weight_decay=optim.weight_decay,
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
        if self.optim.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.clip_norm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights, then their average."""
        super().optimizer_step(*args, **kwargs)
        if self.average is None or self.optim.ema_decay is None:
            return
        step = self.global_step
        decay = min(self.optim.ema_decay, (1 + step) / (10 + step))  # forget the start soon
        with torch.no_grad():
            average: list[Tensor] = list(self.average.parameters())
            weights: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(average, weights, 1 - decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the random numbers' state, and what else must be the same when the run goes on."""
        checkpoint["random_states"] = self.team.gather(torch.get_rng_state())
        checkpoint["threads"] = torch.get_num_threads()
        checkpoint["data"] = self.data_digest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the random numbers until training starts."""
        states = checkpoint["random_states"]
        if len(states) == self.team.size:
            self.random_state = states[self.team.rank]
        else:
            torch.manual_seed(seed_of(torch.initial_seed(), checkpoint["global_step"]))

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
        ratio, after = optim.final_lr_ratio, min(after, 1.0)
        if optim.schedule == "cosine":
            return warmup * (ratio + (1 - ratio) * (1 + math.cos(math.pi * after)) / 2)
        if optim.schedule == "exponential":
            return float(warmup * ratio**after)
        return warmup

    return factor
