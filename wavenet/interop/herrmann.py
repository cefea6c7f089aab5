"""vincentherrmann/pytorch-wavenet: modules pickled since December 2017, state dicts of May 2017.

| since 2017-12                  | ours                                            |
| ------------------------------ | ----------------------------------------------- |
| `start_conv` on one-hot        | input embedding of one tap                      |
| `filter_convs`, `gate_convs`   | halves of the gated convolution                 |
| `residual_convs`, `skip_convs` | residual and skip; the last residual is unused  |
| `end_conv_1`, `end_conv_2`     | head                                            |

In May 2017 `dilated_convs` held both halves, tanh first, there was one `end_conv`, and `start_conv`
saw a number, `linspace(-1, 1, classes)` of the class: the embedding is that number times its
weight. After the ReLU of the skip sum an identity changes nothing, so `head.hidden` is one.
"""

import re

import torch
from torch import Tensor

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.interop.assemble import assemble, required_rate, set_block
from wavenet.interop.source import Fields, Imported, Source, Weights
from wavenet.utils.errors import CheckpointError, ConfigError

PROJECT = "vincentherrmann/pytorch-wavenet"
NAME = re.compile(r".*_(\d{1,2})-(\d{1,2})-\d+-\d+-\d+-\d+-\d+")  # layers, blocks, then widths
GRID_NOTE = (
    "classes are put where the project puts them; a class sounds as the middle of its range, "
    "where the project takes a point of another grid"
)

NUMBER_NOTE = (
    "a class enters as the number that the project fed in training, and not as the expanded one "
    "that its generation fed"
)
HALVES = ("filter", "gate")


def convert(source: Source) -> Imported:
    """Return a model of December 2017 or later as ours."""
    weights = source.weights
    count = weights.count("filter_convs.{}.weight")
    gate, width, taps = weights.shape("filter_convs.0.weight", 3)
    head, skips, _ = weights.shape("end_conv_1.weight", 3)
    tensors = source.new_tensors()
    start = weights.take("start_conv.weight", width, -1, 1)
    tensors["input.weight"] = start.permute(2, 1, 0)
    _set_bias(weights, tensors, "start_conv", "input")
    for index in range(count):
        pair = [weights.take(f"{half}_convs.{index}.weight", gate, width, taps) for half in HALVES]
        biases = [weights.take_if_there(f"{half}_convs.{index}.bias", gate) for half in HALVES]
        both = [bias for bias in biases if bias is not None]
        if len(both) == 1:
            raise CheckpointError(f"has one bias for the two halves of block {index}")
        _set_block(
            source,
            tensors,
            index,
            (torch.cat(pair), torch.cat(both) if both else None),
            last=index == count - 1,
        )
    for name, theirs in (("hidden", "end_conv_1"), ("output", "end_conv_2")):
        tensors[f"head.{name}.weight"] = weights.take(f"{theirs}.weight", -1, -1, 1)
        _set_bias(weights, tensors, theirs, f"head.{name}")
    config = WaveNetConfig(
        quantization_channels=start.shape[1],
        companding="mu-law-n-grid",
        dilations=_dilations(source, count),
        kernel_size=taps,
        residual_channels=width,
        gate_channels=2 * gate,
        skip_channels=skips,
        head_channels=head,
    )
    return _finish(source, f"{PROJECT}, 2017-12", config, tensors, (GRID_NOTE,))


def convert_scalar(source: Source) -> Imported:
    """Return a model of May 2017 as ours."""
    weights = source.weights
    count = weights.count("dilated_convs.{}.weight")
    gate, width, taps = weights.shape("dilated_convs.0.weight", 3)
    channels = weights.shape("residual_convs.0.weight", 3)[1]
    classes, skips, _ = weights.shape("end_conv.weight", 3)
    if gate == channels:
        raise CheckpointError(
            "has a ReLU in place of the gate, an older form of vincentherrmann/pytorch-wavenet "
            "that is not imported: name a model of May 2017 or later"
        )
    start = weights.take("start_conv.weight", width, 1, 1)
    values = torch.linspace(-1, 1, classes, dtype=torch.float64)
    tensors = source.new_tensors()
    tensors["input.weight"] = (values[:, None] * start[:, 0, 0]).unsqueeze(0)
    _set_bias(weights, tensors, "start_conv", "input")
    for index in range(count):
        conv = weights.take(f"dilated_convs.{index}.weight", gate, width, taps)
        bias = weights.take_if_there(f"dilated_convs.{index}.bias", gate)
        _set_block(source, tensors, index, (conv, bias), last=index == count - 1)
    tensors["head.hidden.weight"] = torch.eye(skips, dtype=torch.float64).unsqueeze(-1)
    tensors["head.output.weight"] = weights.take("end_conv.weight", classes, skips, 1)
    _set_bias(weights, tensors, "end_conv", "head.output")
    config = WaveNetConfig(
        quantization_channels=classes,
        companding="mu-law-n-grid",
        dilations=_dilations(source, count),
        kernel_size=taps,
        residual_channels=width,
        gate_channels=gate,
        skip_channels=skips,
        head_channels=skips,
    )
    return _finish(source, f"{PROJECT}, 2017-05", config, tensors, (GRID_NOTE, NUMBER_NOTE))


def _dilations(source: Source, count: int) -> tuple[int, ...]:
    """Return the dilations, by the module's attributes, the config, or the name of the file."""
    named = NAME.fullmatch(source.path.name)
    if "layers" in source.attributes:
        fields = Fields(source.attributes, "the pickled module")
    elif source.config.values or named is None:
        fields = source.config
    else:
        fields = Fields({"layers": int(named[1]), "blocks": int(named[2])}, "the file's name")
    if "layers" not in fields:
        raise ConfigError(
            "the weights do not tell their dilations, and the file is not named as the project "
            'names it (WHAT_LAYERS-BLOCKS-...): add config=FILE with {"layers": 10, "blocks": 3}'
        )
    layers, blocks = int(fields.integer("layers")), int(fields.integer("blocks"))
    if layers * blocks != count or layers > 24:
        raise ConfigError(
            f"{fields.name}: {blocks} times {layers} blocks, but the file has {count}"
        )
    return tuple(2**layer for layer in range(layers)) * blocks


def _set_block(
    source: Source,
    tensors: dict[str, Tensor],
    index: int,
    conv: tuple[Tensor, Tensor | None],
    *,
    last: bool,
) -> None:
    def pair(name: str) -> tuple[Tensor, Tensor | None]:
        weight = source.weights.take(f"{name}.{index}.weight", -1, -1, 1)
        return weight, source.weights.take_if_there(f"{name}.{index}.bias", len(weight))

    skip, residual = pair("skip_convs"), pair("residual_convs")
    set_block(tensors, index, conv=conv, skip=skip, residual=None if last else residual)


def _set_bias(weights: Weights, tensors: dict[str, Tensor], theirs: str, ours: str) -> None:
    bias = weights.take_if_there(f"{theirs}.bias", -1)
    if bias is not None:
        tensors[f"{ours}.bias"] = bias


def _finish(
    source: Source,
    project: str,
    config: WaveNetConfig,
    tensors: dict[str, Tensor],
    notes: tuple[str, ...],
) -> Imported:
    rate = required_rate(source, hint=" (16000 in the project's scripts)")
    return assemble(source, project, config, tensors, AudioConfig(sample_rate=rate), notes)
