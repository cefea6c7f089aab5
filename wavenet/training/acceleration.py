"""What makes training fast: compiled parts of a model, and memory that glibc keeps."""

import ctypes
import os
from collections.abc import Callable

import torch
from torch import Tensor

from wavenet.distributions.categorical import cross_entropy
from wavenet.kernels.cpu_predictors import use_compiled_coefficients
from wavenet.kernels.cross_entropy import fast_cross_entropy
from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.kernels.row_products import fast_matmul
from wavenet.model import WaveNet
from wavenet.modules import GatedActivation, ResidualStack
from wavenet.modules.rows import matmul
from wavenet.training.options import TrainerOptions


def accelerate(model: WaveNet, options: TrainerOptions) -> None:
    """Use compiled parts in a model, and checkpoint its activations if asked for."""
    if model.distribution.cross_entropy is cross_entropy:
        model.distribution.cross_entropy = fast_cross_entropy()
    if model.predictor is not None:
        use_compiled_coefficients(model.predictor)
    for module in model.modules():
        if isinstance(module, ResidualStack):
            if module.gated_activation is GatedActivation:
                module.gated_activation = fast_gated_activation
            if module.matmul is matmul:
                module.matmul = fast_matmul()
            module.checkpoint_activations = options.activation_checkpointing


def compile_nll(model: WaveNet) -> Callable[..., Tensor]:
    """Return `model.nll` compiled around the residual stacks, which are fused by hand."""
    for module in model.modules():
        if isinstance(module, ResidualStack):
            module.forward = torch.compiler.disable(module.forward)  # type: ignore
    if model.predictor is not None:  # what Numba has compiled
        coefficients = model.predictor.coefficients
        model.predictor.coefficients = torch.compiler.disable(coefficients)  # type: ignore
    return torch.compile(model.nll)


def keep_freed_memory() -> None:
    """Make glibc keep freed memory, because each update allocates the same again.

    Without it, each large tensor is mapped, faulted in page by page and unmapped again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
