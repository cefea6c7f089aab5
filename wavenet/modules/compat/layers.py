"""Layers of other projects' state dicts: found by their names, renamed, and loaded into a stack."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from wavenet.modules.compat.weight_norm import convert_weight_norm, load_weights
from wavenet.modules.residual_stack import ResidualStack

Layer = dict[str, Tensor]  # by the name of the tensor in its layer


def build_stack(
    blocks: Sequence[Layer], dilations: Sequence[int], shared: Layer | None = None, **options: Any
) -> ResidualStack:
    """Return a stack of the blocks' weights, which have the names of a `ResidualBlock`."""
    first, shared = blocks[0], shared or {}
    gate_channels, residual_channels, kernel_size = first["conv.weight"].shape
    conditioning = shared.get("conditioning_conv.weight", first.get("conditioning_conv.weight"))
    step = first.get("step_projection.weight")
    stack = ResidualStack(
        dilations,
        residual_channels,
        gate_channels,
        first["skip_conv.weight"].shape[0],
        kernel_size,
        bias="conv.bias" in first,
        conditioning_channels=0 if conditioning is None else conditioning.shape[1],
        shared_conditioning=bool(shared),
        step_channels=0 if step is None else step.shape[1],
        **options,
    ).to(first["conv.weight"])
    weights = shared | {
        f"blocks.{index}.{name}": tensor
        for index, block in enumerate(blocks)
        for name, tensor in block.items()
        if index < len(blocks) - 1 or not name.startswith("residual_conv.")
    }
    load_weights(stack, weights)
    return stack


def select_parts(state_dict: Mapping[str, Any], prefix: str, containers: Collection[str]) -> Layer:
    """Return the plain weights of the named parts of a model, without the prefix."""
    inside = {name[len(prefix) :]: w for name, w in state_dict.items() if name.startswith(prefix)}
    chosen = {name: w for name, w in inside.items() if name.partition(".")[0] in containers}
    return convert_weight_norm(chosen, "plain")


def numbered_layers(
    weights: Layer, container: str, needed: Sequence[str], optional: Sequence[str] = ()
) -> list[Layer]:
    """Return the layers of a list of modules, each by the names of its tensors.

    Raises:
        ValueError: Layers or tensors are missing, or a tensor is unknown.
    """
    layers: dict[int, Layer] = {}
    for name, tensor in weights.items():
        if match := re.fullmatch(rf"{container}\.(\d+)\.(.+)", name):
            layers.setdefault(int(match[1]), {})[match[2]] = tensor
    if not layers or sorted(layers) != list(range(len(layers))):
        raise ValueError(
            f"{container} must have layers 0, 1, ..., got {sorted(layers) or 'none'}: prefix= is "
            f"what stands before {container} in the names"
        )
    for index, layer in layers.items():
        if missing := [name for name in needed if name not in layer]:
            raise ValueError(f"{container}.{index} has no {', '.join(missing)}")
        if unknown := [name for name in layer if name not in (*needed, *optional)]:
            raise ValueError(f"{container}.{index} has {', '.join(unknown)}, of another layout")
    return [layers[index] for index in range(len(layers))]


def tensor_names(*modules: str) -> list[str]:
    """Return the names of the weights and biases of modules."""
    return [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]


def renamed(layer: Layer, names: Mapping[str, str]) -> Layer:
    """Return weights and biases of the modules of `names` by their new names, as far as present."""
    pairs = zip(tensor_names(*names), tensor_names(*names.values()), strict=True)
    return {new: layer[old.lstrip(".")] for old, new in pairs if old.lstrip(".") in layer}


def residual_and_skip(layer: Layer, module: str, skip_channels: int) -> Layer:
    """Return the parts of a joint output convolution: the residual, if any, comes first."""
    parts: Layer = {}
    for kind in ("weight", "bias"):
        joint = layer[f"{module}.{kind}".lstrip(".")]
        if len(joint) > skip_channels:
            parts[f"residual_conv.{kind}"] = joint[:-skip_channels]
        parts[f"skip_conv.{kind}"] = joint[-skip_channels:]
    return parts
