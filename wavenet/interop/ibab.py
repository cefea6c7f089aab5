"""ibab/tensorflow-wavenet: TensorFlow V2 checkpoints, and `wavenet_params.json`.

TensorFlow orders a kernel `(taps, in, out)`, torch `(out, in, taps)`. The project's names of biases
never reach its files: they are `Variable`, `Variable_1` and so on, in the order of their creation.

| theirs, after `wavenet/`                  | ours                                          |
| ----------------------------------------- | --------------------------------------------- |
| `causal_layer/filter`                     | input embedding, or convolution on a number   |
| `dilated_stack/layerI/filter`, `gate`     | halves of the gated convolution               |
| `.../gc_filter`, `gc_gate`                | halves of the conditioning                    |
| `.../dense`, `skip`                       | residual and skip; the last residual is unused |
| `.../Variable`, `_1`, `_2`, `_3`          | biases of filter, gate, dense, skip           |
| `embeddings/gc_embedding`                 | speaker embedding                             |
| `postprocessing/postprocess1`, `2`        | head                                          |
| `postprocessing/Variable`, `Variable_1`   | its biases                                    |
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.interop.assemble import assemble, required_rate, set_block, set_speakers
from wavenet.interop.source import Imported, Source, Weights
from wavenet.utils.errors import ConfigError

PROJECT = "ibab/tensorflow-wavenet"
PREFIX = "wavenet/"
OPTIMIZER = re.compile(r".*/(?:Adam|Momentum|RMSProp)(?:_\d+)?")
LAYER = "dilated_stack/layer{}"


def select(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's variables, without the optimizer's and without the common prefix."""
    return {
        name[len(PREFIX) :]: tensor
        for name, tensor in variables.items()
        if name.startswith(PREFIX) and not OPTIMIZER.fullmatch(name)
    }


def convert(source: Source) -> Imported:
    """Return a model of this project as ours."""
    weights, fields = source.weights, source.config
    if not fields.values:
        raise ConfigError("config= is missing: add the model's wavenet_params.json")
    count = weights.count(f"{LAYER}/filter")
    dilations = fields.integers("dilations")
    if len(dilations) != count:
        raise ConfigError(
            f"{fields.name}: has {len(dilations)} dilations, the checkpoint {count} blocks"
        )
    taps, width, gate = weights.shape(f"{LAYER.format(0)}/filter", 3)
    skips, classes = weights.shape("postprocessing/postprocess2", 3)[1:]
    speakers = weights.take_if_there("embeddings/gc_embedding", -1, -1)
    scalar = fields.truth("scalar_input", default=False)
    first = weights.take("causal_layer/filter", -1, 1 if scalar else classes, width)
    tensors = source.new_tensors()
    tensors["input.weight"] = first.permute(2, 1, 0) if scalar else first
    config = WaveNetConfig(
        quantization_channels=classes,
        input_type="scalar" if scalar else "embedding",
        input_kernel_size=len(first),
        dilations=dilations,
        kernel_size=taps,
        residual_channels=width,
        gate_channels=2 * gate,
        skip_channels=skips,
        head_channels=skips,
        num_speakers=0 if speakers is None else len(speakers),
        global_channels=1 if speakers is None else speakers.shape[1],
        conditioning_dropout=0.0,
    )
    for index in range(count):
        _set_block(weights, tensors, index, config)
    for name, number, bias in (("hidden", 1, "Variable"), ("output", 2, "Variable_1")):
        kernel = weights.take(f"postprocessing/postprocess{number}", 1, skips, -1)
        tensors[f"head.{name}.weight"] = kernel.permute(2, 1, 0)
        found = weights.take_if_there(f"postprocessing/{bias}", kernel.shape[-1])
        if found is not None:
            tensors[f"head.{name}.bias"] = found
    notes = ["a number enters rounded to the value of its class, in the project as it is"] * scalar
    if speakers is not None:
        set_speakers(tensors, speakers)
        notes.append(NULL_SPEAKER_NOTE)
    audio = AudioConfig(
        sample_rate=required_rate(source, fields.integer("sample_rate", None)),
        speaker_names=tuple(map(str, range(config.num_speakers))),
    )
    return assemble(source, PROJECT, config, tensors, audio, notes)


NULL_SPEAKER_NOTE = (
    "speakers have their numbers as names; the null speaker, which the project lacks, is the mean "
    "of all"
)


def _set_block(
    weights: Weights, tensors: dict[str, Tensor], index: int, config: WaveNetConfig
) -> None:
    layer, taps = LAYER.format(index), config.kernel_size
    width, gate, skips = config.residual_channels, config.gate_channels // 2, config.skip_channels
    halves = [weights.take(f"{layer}/{half}", taps, width, gate) for half in ("filter", "gate")]
    conditioning = None
    if config.num_speakers:
        size = config.global_channels
        pair = [weights.take(f"{layer}/gc_{half}", 1, size, gate) for half in ("filter", "gate")]
        conditioning = torch.cat(pair, dim=-1).permute(2, 1, 0)
    names = ("Variable", "Variable_1", "Variable_2", "Variable_3")
    sizes = (gate, gate, width, skips)
    biases = [
        weights.take_if_there(f"{layer}/{name}", size)
        for name, size in zip(names, sizes, strict=True)
    ]
    residual = weights.take(f"{layer}/dense", 1, gate, width).permute(2, 1, 0)
    skip = weights.take(f"{layer}/skip", 1, gate, skips).permute(2, 1, 0)
    both = [bias for bias in biases[:2] if bias is not None]
    set_block(
        tensors,
        index,
        conv=(torch.cat(halves, dim=-1).permute(2, 1, 0), torch.cat(both) if both else None),
        skip=(skip, biases[3]),
        residual=(residual, biases[2]) if index < len(config.dilations) - 1 else None,
        conditioning=conditioning,
    )
