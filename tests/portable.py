"""Modules with inputs for what PyTorch does with any module: export, transform, copy."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.modules import ResidualStack
from wavenet.modules.compat import WN

HOP = 4
Inputs = dict[str, Tensor]
Case = tuple[nn.Module, Inputs]
SIZES: dict[str, Any] = {
    "dilations": (1, 2),
    "residual_channels": 4,
    "gate_channels": 6,
    "skip_channels": 5,
    "head_channels": 5,
}


def standard_stack(frames: int) -> Case:
    """A stack that is fused, with conditioning."""
    stack = ResidualStack((1, 2, 4), 4, 6, 5, 3, conditioning_channels=3)
    length = HOP * frames
    return stack, {"x": torch.randn(2, 4, length), "conditioning": torch.randn(2, 3, length)}


def non_causal_stack(frames: int) -> Case:
    """A stack with shared conditioning and a mask, as VITS has."""
    stack = ResidualStack(
        (1, 1), 4, 8, 4, 3, causal=False, conditioning_channels=3, shared_conditioning=True
    )
    length = HOP * frames
    mask = (torch.arange(length) < torch.tensor([[[length]], [[length - 2]]])).float()
    x, conditioning = torch.randn(2, 4, length), torch.randn(2, 3, length)
    return stack, {"x": x, "conditioning": conditioning, "mask": mask}


def diffusion_stack(frames: int) -> Case:
    """A stack with a vector per item and one conditioning for all samples, as DiffWave has."""
    stack = ResidualStack(
        (1, 2), 4, 8, 4, 3, causal=False, gate="sigmoid*tanh", conditioning_channels=3,
        step_channels=2, residual_scale=0.5**0.5,
    )  # fmt: skip
    inputs = {"conditioning": torch.randn(2, 3, 1), "step_embedding": torch.randn(2, 2)}
    return stack, {"x": torch.randn(2, 4, HOP * frames), **inputs}


def vits_wn(frames: int) -> Case:
    """VITS's block, with weight norm of its own."""
    length = HOP * frames
    mask = (torch.arange(length) < torch.tensor([[[length]], [[length - 2]]])).float()
    inputs = {"x": torch.randn(2, 4, length), "x_mask": mask, "g": torch.randn(2, 3, 1)}
    return WN(4, 3, 2, 2, gin_channels=3), inputs


def mixture_model(frames: int) -> Case:
    """A model of values, with speakers and frames."""
    config = WaveNetConfig(
        output_distribution="logistic_mixture",
        quantization_channels=65536,
        num_mixtures=2,
        input_type="scalar",
        num_speakers=2,
        local=LocalConfig(in_channels=3, channels=4, upsample_scales=(2, 2), lookahead=1),
        **SIZES,
    )
    inputs = {"local": torch.randn(2, 3, frames), "speaker": torch.tensor([-1, 1])}
    return WaveNet(config), {"waveform": 2 * torch.rand(2, HOP * frames) - 1, **inputs}


def class_model(frames: int) -> Case:
    """A model of classes, which it looks up."""
    config = WaveNetConfig(quantization_channels=16, input_kernel_size=2, **SIZES)
    return WaveNet(config), {"waveform": 2 * torch.rand(2, HOP * frames) - 1}


def companded_model(frames: int) -> Case:
    """A model whose classes are looked up in a table of edges."""
    config = WaveNetConfig(
        quantization_channels=16, companding="mu-law-floor", input_type="scalar", **SIZES
    )
    return WaveNet(config), {"waveform": 2 * torch.rand(2, HOP * frames) - 1}


CASES: dict[str, Callable[[int], Case]] = {
    make.__name__: make
    for make in (
        standard_stack, non_causal_stack, diffusion_stack, vits_wn, mixture_model, class_model,
        companded_model,
    )
}  # fmt: skip


def build(name: str, frames: int = 5) -> Case:
    """A case in eval mode, with inputs of so many frames; always the same numbers."""
    torch.manual_seed(0)
    module, inputs = CASES[name](frames)
    return module.eval(), inputs


def inputs_of(name: str, frames: int) -> Inputs:
    """Inputs of a case, of another length."""
    return build(name, frames)[1]


def gradients(module: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The gradients of a sum of the output, by name; zeros where there is none."""
    names, weights = zip(*module.named_parameters(), strict=True)
    loss = module(**inputs).square().sum()
    found = torch.autograd.grad(loss, weights, materialize_grads=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


def as_double(case: Case) -> Case:
    """The case in float64."""
    module, inputs = case
    return module.double(), {
        name: x.double() if x.is_floating_point() else x for name, x in inputs.items()
    }
