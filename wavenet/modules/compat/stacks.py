"""The gated stacks of other projects as `ResidualStack`s: built and loaded from their state dicts.

Sizes follow from the shapes of the weights; dilations, which do not, are arguments. Weight norm may
have any form, and it is removed. What is not in the stack (input and output convolutions,
upsampling, the embedding of a diffusion step) is left to the caller; the last layer's residual
output, which the projects compute and do not use, is left out. Names and formulas are those of the
projects' sources, which each function names.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.modules.compat.layers import (
    Layer,
    build_stack,
    numbered_layers,
    renamed,
    residual_and_skip,
    select_parts,
    tensor_names,
)
from wavenet.modules.compat.weight_norm import load_weights
from wavenet.modules.residual_stack import ResidualStack

CONV = "weight", "bias"
OWN_NAMES = {
    "conv": "conv",
    "conv1x1_aux": "conditioning_conv",
    "conv1x1c": "conditioning_conv",
    "conv1x1_out": "residual_conv",
    "conv1x1_skip": "skip_conv",
}


def diffwave_stack(
    state_dict: Mapping[str, Any], *, dilation_cycle: int = 10, prefix: str = ""
) -> ResidualStack:
    """Return DiffWave's residual layers, or those of a project after it, such as DiffSinger.

    Layer `i` of `L`, with dilation `2 ** (i % dilation_cycle)` to both sides:

        y = dilated_conv(x + diffusion_projection(step)) + conditioner_projection(c)
        r, s = halves of output_projection(sigmoid(half of y) * tanh(other half))
        residual output: (x + r) / sqrt(2)

    The output is the sum of all `s` divided by `sqrt(L)`. The bias of the conditioner's projection
    is added to that of the convolution.

    The stack's input is DiffWave's `relu(input_projection(audio))`, `step_embedding` the output of
    its `diffusion_embedding`, `(B, 512)` and in DiffSinger `(B, C)`, and `conditioning` the
    upsampled spectrogram, which unconditional models do without.

    Args:
        state_dict: With `residual_layers.{i}.dilated_conv`, `.diffusion_projection`,
            `.conditioner_projection` and `.output_projection`; other names are ignored.
        dilation_cycle: Layers until the dilation is 1 again: DiffWave 10, DiffSinger 4 or 1.
        prefix: What stands before `residual_layers`.

    Raises:
        ValueError: Names are missing or unknown, or shapes do not fit.

    Source: Kong et al. 2021 (arXiv:2009.09761), section 3; github.com/lmnt-com/diffwave, model.py.
    """
    weights = select_parts(state_dict, prefix, ["residual_layers"])
    needed = tensor_names("dilated_conv", "diffusion_projection", "output_projection")
    blocks = []
    for layer in numbered_layers(
        weights, "residual_layers", needed, tensor_names("conditioner_projection")
    ):
        names = {"dilated_conv": "conv", "diffusion_projection": "step_projection"}
        block = renamed(layer, names)
        if "conditioner_projection.weight" in layer:
            block["conditioning_conv.weight"] = layer["conditioner_projection.weight"]
        if "conditioner_projection.bias" in layer:
            block["conv.bias"] = block["conv.bias"] + layer["conditioner_projection.bias"]
        width = block["conv.weight"].shape[1]
        blocks.append(block | residual_and_skip(layer, "output_projection", width))
    return build_stack(
        blocks,
        [2 ** (index % dilation_cycle) for index in range(len(blocks))],
        causal=False,
        gate="sigmoid*tanh",
        residual_scale=0.5**0.5,
        skip_scale=len(blocks) ** -0.5,
    )


def wn_stack(
    state_dict: Mapping[str, Any],
    *,
    dilation_rate: int = 2,
    dropout: float = 0.0,
    prefix: str = "",
) -> ResidualStack:
    """Return the layers of WaveGlow's or VITS's `WN` as a stack.

    Layer `i`, with dilation `dilation_rate**i` to both sides:

        y = in_layers[i](x) + part i of cond_layer(c)
        r, s = halves of res_skip_layers[i](tanh(half of y) * sigmoid(other half))
        residual output: x + r

    The output is the sum of all `s`; the last layer has no `r`. Older files of WaveGlow have
    `cond_layers.{i}`, and some `res_layers.{i}` and `skip_layers.{i}`, in place of the joint ones.

    `WN` is the module for code that calls VITS's; a `ResidualStack` has more options.

    Args:
        state_dict: With `in_layers.{i}`, `res_skip_layers.{i}` and, if it is conditioned,
            `cond_layer`; other names are ignored.
        dilation_rate: WaveGlow 2; VITS 1.
        dropout: Probability of dropping a value of a gate's output in training, 0 to 1.
        prefix: What stands before `in_layers`, such as `WN.0.` or `enc_q.enc.`.

    Raises:
        ValueError: Names are missing or unknown, or shapes do not fit.

    Source: Prenger et al. 2019 (arXiv:1811.00002), section 2.2; github.com/NVIDIA/waveglow, glow.py
    and glow_old.py; github.com/jaywalnut310/vits, modules.py.
    """
    lists = [f"{part}_layers" for part in ("in", "res_skip", "res", "skip", "cond")]
    weights = select_parts(state_dict, prefix, [*lists, "cond_layer"])
    blocks = [renamed(layer, {"": "conv"}) for layer in numbered_layers(weights, "in_layers", CONV)]
    width = blocks[0]["conv.weight"].shape[1]
    container = "skip_layers" if "skip_layers.0.weight" in weights else "res_skip_layers"
    outputs = [
        residual_and_skip(layer, "", width) for layer in numbered_layers(weights, container, CONV)
    ]
    _check_number(container, len(outputs), len(blocks))
    if container == "skip_layers" and len(blocks) > 1:
        residuals = numbered_layers(weights, "res_layers", CONV)
        _check_number("res_layers", len(residuals), len(blocks) - 1)
        outputs = [
            output | renamed(layer, {"": "residual_conv"})
            for output, layer in zip(outputs, [*residuals, {}], strict=True)
        ]
    return build_stack(
        [block | output for block, output in zip(blocks, outputs, strict=True)],
        [dilation_rate**index for index in range(len(blocks))],
        _shared_conditioning(weights, len(blocks)),
        causal=False,
        dropout=dropout,
        dropout_at="gate",
    )


class WaveGlowWN(nn.Module):
    """The network of a WaveGlow coupling: a 1x1 convolution, a non-causal stack, and another one.

    Args:
        start: From half of the coupled channels to those of the stack.
        stack: With conditioning; see `wn_stack`.
        end: To twice the coupled half: shift and logarithm of the scale, in this order.

    Shape:
        - Input: `(B, n_in_channels, T)`; conditioning `(B, n_mel_channels, T)`
        - Output: `(B, 2 * n_in_channels, T)`
    """

    def __init__(self, start: nn.Conv1d, stack: ResidualStack, end: nn.Conv1d) -> None:
        super().__init__()
        self.start = start
        self.stack = stack
        self.end = end

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        y: Tensor = self.end(self.stack(self.start(x), conditioning))
        return y


def waveglow_wn(state_dict: Mapping[str, Any], *, prefix: str = "") -> WaveGlowWN:
    """Return one `WN` of WaveGlow, without weight norm.

    Args:
        state_dict: With `start` and `end`, and what `wn_stack` needs; other names are ignored.
        prefix: What stands before `start`; `WN.0.` for the first coupling of a whole WaveGlow.

    Raises:
        ValueError: Names are missing or unknown, or shapes do not fit.

    Source: see `wn_stack`.
    """
    weights = select_parts(state_dict, prefix, ["start", "end"])
    start, end = (_conv1x1(weights, name) for name in ("start", "end"))
    return WaveGlowWN(start, wn_stack(state_dict, prefix=prefix), end)


def parallel_wavegan_stack(
    state_dict: Mapping[str, Any],
    *,
    stacks: int = 3,
    causal: bool = False,
    dropout: float = 0.0,
    prefix: str = "",
) -> ResidualStack:
    """Return the residual blocks of Parallel WaveGAN's generator.

    Layer `i` of `L`, with dilation `2 ** (i % (L / stacks))`:

        y = conv(dropout(x)) + conv1x1_aux(c)
        z = tanh(half of y) * sigmoid(other half)
        residual output: (x + conv1x1_out(z)) * sqrt(0.5);  s = conv1x1_skip(z)

    The output is the sum of all `s` times `sqrt(1 / L)`. The stack's input is `first_conv(noise)`
    and `conditioning` the upsampled spectrogram.

    Args:
        state_dict: With `conv_layers.{i}.conv`, `.conv1x1_aux`, `.conv1x1_out` and `.conv1x1_skip`,
            with or without biases; other names are ignored.
        stacks: Cycles of dilations; divides the number of layers.
        causal: Look back only (`use_causal_conv`); otherwise to both sides.
        dropout: Probability of dropping a value of a layer's input in training, 0 to 1.
        prefix: What stands before `conv_layers`, such as `generator.`.

    Raises:
        ValueError: Names are missing or unknown, shapes do not fit, or `stacks` does not divide the
            number of layers.

    Source: Yamamoto et al. 2020 (arXiv:1910.11480); github.com/kan-bayashi/ParallelWaveGAN,
    layers/residual_block.py and models/parallel_wavegan.py.
    """
    weights = select_parts(state_dict, prefix, ["conv_layers"])
    needed = "conv.weight", "conv1x1_out.weight", "conv1x1_skip.weight"
    optional = "conv1x1_aux.weight", "conv.bias", "conv1x1_out.bias", "conv1x1_skip.bias"
    layers = numbered_layers(weights, "conv_layers", needed, optional)
    blocks = [renamed(layer, OWN_NAMES) for layer in layers]
    return build_stack(
        blocks,
        _cycles(len(blocks), stacks),
        causal=causal,
        dropout=dropout,
        residual_scale=0.5**0.5,
        skip_scale=len(blocks) ** -0.5,
    )


def nnsvs_stack(
    state_dict: Mapping[str, Any], *, stacks: int = 1, prefix: str = ""
) -> ResidualStack:
    """Return the residual blocks of NNSVS's WaveNet, which is causal and scales nothing.

    Layer `i` of `L`, with dilation `2 ** (i % (L / stacks))` to the past:

        y = conv(x) + conv1x1c(c)
        z = tanh(half of y) * sigmoid(other half)
        residual output: x + conv1x1_out(z);  s = conv1x1_skip(z)

    The output is the sum of all `s`. The stack's input is `first_conv(x)`. NNSVS's diffusion models
    have DiffWave's layers: see `diffwave_stack`.

    Args:
        state_dict: With `main_conv_layers.{i}.conv`, `.conv1x1c`, `.conv1x1_out` and
            `.conv1x1_skip`; other names are ignored.
        stacks: Cycles of dilations; divides the number of layers.
        prefix: What stands before `main_conv_layers`.

    Raises:
        ValueError: As `parallel_wavegan_stack`.

    Source: github.com/nnsvs/nnsvs, wavenet/modules.py and wavenet/wavenet.py.
    """
    weights = select_parts(state_dict, prefix, ["main_conv_layers"])
    needed = "conv1x1c.weight", *tensor_names("conv", "conv1x1_out", "conv1x1_skip")
    layers = numbered_layers(weights, "main_conv_layers", needed)
    blocks = [renamed(layer, OWN_NAMES) for layer in layers]
    return build_stack(blocks, _cycles(len(blocks), stacks))


def _shared_conditioning(weights: Layer, count: int) -> Layer:
    """Return the projection of the conditioning of a `WN`, which may be in one part per layer."""
    layer = {
        name: weights[f"cond_layer.{name}"] for name in CONV if f"cond_layer.{name}" in weights
    }
    if "cond_layers.0.weight" in weights:
        layers = numbered_layers(weights, "cond_layers", CONV)
        _check_number("cond_layers", len(layers), count)
        layer = {name: torch.cat([part[name] for part in layers]) for name in CONV}
    return renamed(layer, {"": "conditioning_conv"})


def _conv1x1(weights: Layer, name: str) -> nn.Conv1d:
    if missing := [full for full in tensor_names(name) if full not in weights]:
        raise ValueError(f"{', '.join(missing)} missing: prefix= is what stands before {name}")
    weight = weights[f"{name}.weight"]
    conv = nn.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2]).to(weight)
    load_weights(conv, {kind: weights[f"{name}.{kind}"] for kind in CONV})
    return conv


def _cycles(count: int, stacks: int) -> list[int]:
    if stacks < 1 or count % stacks:
        raise ValueError(f"stacks must divide the {count} layers, got {stacks}")
    return [2 ** (index % (count // stacks)) for index in range(count)]


def _check_number(container: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{container} must have {expected} layers, got {found}")
