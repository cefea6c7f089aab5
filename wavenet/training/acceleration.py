"""What makes the most of the machine: compiled parts of a model, memory that is kept."""

import ctypes
import os

import torch

from wavenet.kernels.cross_entropy import fast_cross_entropy
from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.model import WaveNet
from wavenet.modules import ResidualStack
from wavenet.training.options import TrainerOptions
from wavenet.utils.errors import ConfigError


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ConfigError: PyTorch finds none.
    """
    there = device not in ("cuda", "mps")
    there |= device == "cuda" and torch.cuda.is_available()
    there |= device == "mps" and bool(torch.backends.mps.is_available())
    if not there:
        raise ConfigError(
            f"trainer.device={device}: PyTorch {torch.__version__} finds none here; "
            "say trainer.device=cpu, or leave it to auto"
        )


def hasten(model: WaveNet, options: TrainerOptions) -> None:
    """Have a model computed in the fastest way here, in the memory that is wanted."""
    if model.distribution.cross_entropy is not None:
        model.distribution.cross_entropy = fast_cross_entropy()
    for module in model.modules():
        if isinstance(module, ResidualStack):
            module.gated_activation = fast_gated_activation()
            module.checkpoint_activations = options.activation_checkpointing


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: an update allocates the same again.

    Without it, each large tensor is mapped, faulted in page by page and unmapped again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
