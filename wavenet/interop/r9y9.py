"""r9y9/wavenet_vocoder, master and v0.1.x (the one on PyPI).

Files: `checkpoint_step*.pth`, better its `_ema.pth`, with the state dict under `state_dict`;
`hparams.json`, or a preset of v0.1.x.

| theirs                           | ours                                                         |
| -------------------------------- | ------------------------------------------------------------ |
| `first_conv`                     | input: embedding of one tap for one-hot, else convolution    |
| `conv_layers.i.conv`             | gated convolution, tanh half first                           |
| `conv1x1c`, `conv1x1g`           | conditioning; biases (v0.1.x) added to the gated convolution |
| `conv1x1_out`, `conv1x1_skip`    | residual and skip; the last residual is read by nobody       |
| `last_conv_layers.1`, `.3`       | head                                                         |
| `embed_speakers`                 | speaker embedding; without it, a vector of as many numbers   |
| `upsample_net` (master)          | first convolution over frames, upsampling `centered`         |
| `upsample_conv` (v0.1.x)         | upsampling `bands`                                           |

The skip sum is scaled by `sqrt(1 / blocks)` in master. In v0.1.x, unless `legacy` is false, the sum
so far is scaled by `sqrt(1/2)` in each block but the first: block `i` of `n` counts
`sqrt(1/2) ** (n - max(i, 1))`, folded into its weights.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wavenet.config import AudioConfig, LocalConfig, WaveNetConfig
from wavenet.interop.assemble import (
    ONE_SAMPLE_LATE,
    assemble,
    dilation_cycle,
    required_rate,
    set_block,
    set_speakers,
)
from wavenet.interop.r9y9_frames import convert_audio, convert_upsampling
from wavenet.interop.source import Imported, Source, Weights
from wavenet.utils.errors import CheckpointError, ConfigError

PROJECT = "r9y9/wavenet_vocoder"
BLOCKS = "conv_layers"
MIN_LOG_SCALE = -30.0  # the least that a config allows: below what float32 tells from 0
MASTER_KEYS = ("cin_pad", "output_distribution", "upsample_params")
OLD_KEYS = ("builder", "legacy", "freq_axis_kernel_size")


def convert(source: Source) -> Imported:
    """Return a model of this project as ours."""
    fields = source.config
    if not fields.values:
        raise ConfigError(
            "config= is missing: add the model's hparams.json, or the preset of v0.1.x, which has "
            "what the weights do not tell"
        )
    master = _is_master(source)
    project = f"{PROJECT}, {'master' if master else 'v0.1.x'}"
    blocks = source.weights.count(BLOCKS + ".{}.conv.weight")
    options = {
        "dilations": dilation_cycle(blocks, fields.integer("stacks"), fields.name),
        "residual_scale": math.sqrt(0.5),
        "skip_scale": math.sqrt(1 / max(blocks, 1)) if master else 1.0,
        "dropout": fields.number("dropout", 0.0),
    }
    output, notes = _output(source, master)
    tensors = source.new_tensors()
    local, audio = None, AudioConfig(sample_rate=_rate(source))
    if f"{BLOCKS}.0.conv1x1c.weight" in source.weights:
        local = convert_upsampling(source, tensors, master=master)
        audio, more = convert_audio(source, local, master=master)
        notes = [*notes, *more, ONE_SAMPLE_LATE]
    factors = [1.0] * blocks
    if not master and fields.truth("legacy", default=True):
        factors = [math.sqrt(0.5) ** (blocks - max(index, 1)) for index in range(blocks)]
    config = convert_network(source, tensors, options | output, local, BLOCKS, factors)
    if config.num_speakers:
        names = tuple(map(str, range(config.num_speakers)))
        audio = replace(audio, speaker_names=names)
        notes = [*notes, "the null speaker, which the project lacks, is the mean of all speakers"]
    return assemble(source, project, config, tensors, audio, notes)


def convert_network(
    source: Source,
    tensors: dict[str, Tensor],
    options: dict[str, Any],
    local: LocalConfig | None,
    blocks: str,
    skip_factors: Sequence[float],
) -> WaveNetConfig:
    """Enter the weights of the network, and return its config.

    Args:
        source: What was read.
        tensors: Where the weights go, by our names.
        options: Of the config, as far as the weights do not tell.
        local: Local conditioning.
        blocks: Name of the list of blocks.
        skip_factors: Factor of each block's skip.
    """
    weights = source.weights
    gate, width, taps = weights.shape(f"{blocks}.0.conv.weight", 3)
    skips = weights.shape("last_conv_layers.1.weight", 3)[1]
    head = weights.shape("last_conv_layers.1.weight", 3)[0]
    embedding = weights.take_if_there("embed_speakers.weight", -1, -1)
    size = 0
    if f"{blocks}.0.conv1x1g.weight" in weights:
        size = weights.shape(f"{blocks}.0.conv1x1g.weight", 3)[1]
        options = options | _global_options(tensors, embedding, size)
    elif embedding is not None:
        raise CheckpointError("has speakers (embed_speakers), but no conv1x1g that reads them")
    config = WaveNetConfig(
        kernel_size=taps,
        residual_channels=width,
        gate_channels=gate,
        skip_channels=skips,
        head_channels=head,
        local=local,
        **options,
    )
    classes = 1 if config.input_type == "scalar" else config.quantization_channels
    first = weights.take("first_conv.weight", width, classes, 1)
    tensors["input.weight"] = first if config.input_type == "scalar" else first.permute(2, 1, 0)
    tensors["input.bias"] = weights.take("first_conv.bias", width)
    for index in range(len(config.dilations)):
        factor = skip_factors[index]
        _set_block(weights, tensors, index, f"{blocks}.{index}", config, factor)
    for name, number in (("hidden", 1), ("output", 3)):
        theirs = f"last_conv_layers.{number}"
        weight = weights.take(f"{theirs}.weight", -1, -1, 1)
        bias = weights.take(f"{theirs}.bias", len(weight))
        if name == "output" and config.output_distribution != "categorical" and len(weight) == 3:
            weight, bias = weight[1:], bias[1:]  # the logit of a single component
        tensors[f"head.{name}.weight"], tensors[f"head.{name}.bias"] = weight, bias
    return config


def _is_master(source: Source) -> bool:
    """Return whether a model is of master, not of v0.1.x."""
    names, keys = source.weights.names(), source.config.values
    if any(name.startswith("upsample_net.") for name in names):
        return True
    if any(name.startswith("upsample_conv.") or name.endswith("1x1c.bias") for name in names):
        return False
    master, old = (any(key in keys for key in known) for known in (MASTER_KEYS, OLD_KEYS))
    if master == old:
        raise ConfigError(
            f"{source.config.name}: does not tell master from v0.1.x, which scale differently: it "
            f"needs keys of master ({', '.join(MASTER_KEYS)}) or of v0.1.x ({', '.join(OLD_KEYS)})"
        )
    return master


def _rate(source: Source) -> int:
    return required_rate(source, source.config.integer("sample_rate", None))


def _output(source: Source, master: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the config of input and output, and notes."""
    fields, notes = source.config, []
    channels = source.weights.shape("last_conv_layers.3.weight", 3)[0]
    kind = fields.text("input_type")
    if kind == "mulaw-quantize":
        companding = "mu-law-floor" if master else "mu-law-n-floor"
        if fields.integer("quantize_channels", channels) != channels:
            raise ConfigError(f"{fields.name}: quantize_channels is not the {channels} outputs")
        if master:
            notes.append("a class sounds as the middle of its range, in the project as its edge")
        else:
            notes.append(
                "a class sounds as the middle of its range, in the project as its edge; full "
                "scale, a class of its own there, is in the last one"
            )
        return {"quantization_channels": channels, "companding": companding}, notes
    if kind != "raw":
        raise ConfigError(
            f"{fields.name}: input_type={kind} is not imported, only raw and mulaw-quantize: the "
            "output is a density of companded numbers, which no distribution here describes"
        )
    density = fields.text("output_distribution", "Logistic")
    if channels != 2 and (channels % 3 or density not in ("Logistic", "Normal")):
        raise ConfigError(
            f"{fields.name}: output_distribution={density} with {channels} channels is not "
            "imported: Logistic or Normal, 3 channels a component, or 2"
        )
    floor = fields.number("log_scale_min", -14.0)
    if floor < MIN_LOG_SCALE:
        notes.append(f"log_scale_min is {MIN_LOG_SCALE:g}, not {floor:.3f}: nothing is that narrow")
    notes.append("a sample is rounded to 16 bits where it enters, in the project it is not")
    gaussian = channels == 2 or density == "Normal"
    return {
        "output_distribution": "gaussian_mixture" if gaussian else "logistic_mixture",
        "quantization_channels": 65536,
        "num_mixtures": max(channels // 3, 1),
        "min_log_scale": max(floor, MIN_LOG_SCALE),
        "input_type": "scalar",
    }, notes


def _global_options(
    tensors: dict[str, Tensor], embedding: Tensor | None, size: int
) -> dict[str, Any]:
    """Enter speakers, or a vector that passes unchanged; return their options."""
    options = {"global_channels": size, "conditioning_dropout": 0.0}
    if embedding is not None:
        set_speakers(tensors, embedding)
        return options | {"num_speakers": len(embedding)}
    tensors["global_conditioner.vector_projection.weight"] = torch.eye(size, dtype=torch.float64)
    tensors["global_conditioner.null_vector"] = torch.zeros(size)
    return options | {"global_in_channels": size}


def _set_block(
    weights: Weights,
    tensors: dict[str, Tensor],
    index: int,
    theirs: str,
    config: WaveNetConfig,
    skip_factor: float,
) -> None:
    width, gate, skips = config.residual_channels, config.gate_channels, config.skip_channels
    bias = weights.take(f"{theirs}.conv.bias", gate)
    columns = []
    for name in ("conv1x1c", "conv1x1g"):
        column = weights.take_if_there(f"{theirs}.{name}.weight", gate, -1, 1)
        offset = weights.take_if_there(f"{theirs}.{name}.bias", gate)
        columns += [] if column is None else [column]
        if offset is not None:
            bias = bias + offset

    def pair(name: str, size: int) -> tuple[Tensor, Tensor]:
        return (
            weights.take(f"{theirs}.{name}.weight", size, gate // 2, 1),
            weights.take(f"{theirs}.{name}.bias", size),
        )

    skip, residual = pair("conv1x1_skip", skips), pair("conv1x1_out", width)
    set_block(
        tensors,
        index,
        conv=(weights.take(f"{theirs}.conv.weight", gate, width, config.kernel_size), bias),
        skip=(skip[0] * skip_factor, skip[1] * skip_factor),
        residual=residual if index < len(config.dilations) - 1 else None,
        conditioning=torch.cat(columns, dim=1) if columns else None,
    )
