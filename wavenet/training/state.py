"""All that training changes: weights, their average, the optimizer, the step, random numbers.

NaN and infinity are kept out of it: they are found in one pass over all tensors.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wavenet.model import WaveNet
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.freeze import trainable
from wavenet.training.optim import build_optimizer
from wavenet.training.options import OptimOptions
from wavenet.training.update_result import UpdateResult, largest_magnitudes
from wavenet.utils.errors import ConfigError

MAX_SKIPPED_IN_A_ROW = 20  # updates
ADVICE = "start again with a lower optim.lr or optim.max_grad_norm"
log = logging.getLogger("wavenet")


class TrainingState:
    """What an update of the weights depends on and changes; a training checkpoint holds it.

    Args:
        model: The weights, frozen ones too; moved to `device`.
        optim: Optimizer and EMA.
        device: Where the model is trained.

    Attributes:
        ema_model: Exponential moving average of the weights; `None` if `ema_decay` is.
        reads_late: Whether the results of an update are read while the next one is computed. An
            update whose gradients are not finite is then skipped by the device itself.
        step: Updates so far, skipped ones included.
        skipped: Updates that were skipped because a gradient was not finite.
        skipped_in_a_row: Those since the last update that was made.
    """

    def __init__(
        self, model: WaveNet, optim: OptimOptions, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.reads_late = self.device.type == "cuda"
        self.model = model
        torch.nn.Module.to(model, self.device)
        self.ema_model: WaveNet | None = None
        if optim.ema_decay is not None:
            self.ema_model = copy.deepcopy(model).requires_grad_(False).eval()
        self.optimizer = build_optimizer(trainable(model), optim)
        self.step = 0
        self.skipped = 0
        self.skipped_in_a_row = 0

    @property
    def eval_model(self) -> WaveNet:
        """The model that is validated and exported: the EMA if there is one."""
        return self.model if self.ema_model is None else self.ema_model

    @property
    def lr(self) -> float:
        """The learning rate of the last update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def parameters(self) -> list[Tensor]:
        """Return all weights, those of the EMA too."""
        models = [self.model] if self.ema_model is None else [self.model, self.ema_model]
        return [weight for model in models for weight in model.parameters()]

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients by the names of their weights."""
        weights = self.model.named_parameters()
        return {name: weight.grad for name, weight in weights if weight.grad is not None}

    def gradients_are_finite(
        self, result: UpdateResult, on_nonfinite: Literal["stop", "skip"]
    ) -> bool:
        """Return whether an update is made; count it as skipped if not.

        Args:
            result: Of the update.
            on_nonfinite: Whether a gradient that is not finite ends training.

        Raises:
            ConfigError: Training is to stop, or has skipped too many updates in a row.
        """
        name = result.nonfinite
        if name is None:
            self.skipped_in_a_row = 0
            return True
        self.skipped += 1
        self.skipped_in_a_row += 1
        loss = float(torch.tensor(result.losses).mean())
        where = f"at step {result.step}, where the loss is {loss:.4g}"
        found = f"gradient of {name} is not finite {where}"
        if on_nonfinite == "stop":
            raise ConfigError(
                f"{found}: training diverged; {ADVICE}, or continue with trainer.on_nonfinite=skip"
            )
        if self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise ConfigError(
                f"{found}: {self.skipped_in_a_row} updates in a row were skipped; {ADVICE}"
            )
        log.warning("warning: %s: the update is skipped (%d so far)", found, self.skipped)
        return False

    def check_finite(self) -> None:
        """Check all that a checkpoint would hold.

        Raises:
            ConfigError: Weights, their average or the optimizer's moments are not finite.
        """
        tensors: dict[str, Tensor] = dict(self.model.named_parameters())
        names = {weight: name for name, weight in tensors.items()}
        if self.ema_model is not None:
            averages = self.ema_model.named_parameters()
            tensors.update({f"EMA of {name}": tensor for name, tensor in averages})
        for weight, state in self.optimizer.state.items():
            moments = {kind: value for kind, value in state.items() if kind != "step"}
            tensors.update({f"{kind} of {names[weight]}": t for kind, t in moments.items()})
        name = first_nonfinite(tensors)
        if name is not None:
            raise ConfigError(
                f"{name} is not finite at step {self.step}: training diverged, and nothing is "
                f"written over earlier checkpoints; {ADVICE}"
            )

    def state_dict(self, group: ProcessGroup) -> dict[str, Any]:
        """Return everything as tensors and plain types; all processes call it."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "ema_model": None if self.ema_model is None else self.ema_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "skipped": (self.skipped, self.skipped_in_a_row),
            "rng_states": group.all_gather(rng_state(self.device)),
            "num_threads": torch.get_num_threads(),
        }

    def load_state_dict(self, contents: dict[str, Any], group: ProcessGroup) -> None:
        """Continue from what `state_dict` returned, with the random numbers of this process."""
        self.step = contents["step"]
        self.skipped, self.skipped_in_a_row = contents["skipped"]
        self.model.load_state_dict(contents["model"])
        if self.ema_model is not None:
            self.ema_model.load_state_dict(contents["ema_model"])
        self.optimizer.load_state_dict(contents["optimizer"])
        states = contents["rng_states"]
        if len(states) == group.size:
            set_rng_state(states[group.rank], self.device)
        else:
            torch.manual_seed(derive_seed(torch.initial_seed(), self.step))


def first_nonfinite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first of tensors on one device that holds NaN or infinity, if any."""
    largest = largest_magnitudes([tensor for tensor in tensors.values() if tensor.numel()])
    if not largest or bool(torch.stack(largest).isfinite().all()):
        return None
    return next(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))


def rng_state(device: torch.device) -> Tensor:
    """Return the state of torch's random numbers, on the CPU and on a GPU, as one vector."""
    cpu = torch.get_rng_state()
    return torch.cat([cpu, torch.cuda.get_rng_state(device)]) if device.type == "cuda" else cpu


def set_rng_state(state: Tensor, device: torch.device) -> None:
    """Set what `rng_state` returned; the part of a GPU is left out where there is none."""
    length = len(torch.get_rng_state())
    torch.set_rng_state(state[:length].clone())
    if device.type == "cuda" and len(state) > length:
        torch.cuda.set_rng_state(state[length:].clone(), device)


def derive_seed(*numbers: int) -> int:
    """Return a seed for an independent stream of random numbers, a function of `numbers`."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
