"""NVIDIA/nv-wavenet, `pytorch/`.

Files: `wavenet_NNN`, a dict with the whole pickled module under `model`; `config.json` beside it.

| theirs                            | ours                                                        |
| --------------------------------- | ----------------------------------------------------------- |
| `embed`                           | input embedding of one tap, bias 0                          |
| `dilate_layers`                   | gated convolution, tanh half first                          |
| `cond_layers`, rows of all blocks | conditioning; biases added to the gated convolutions        |
| `res_layers`, `skip_layers`       | residual and skip                                           |
| `conv_out`, `conv_end`            | head, biases 0                                              |
| `upsample`, of several strides    | upsampling `transposed` of as many frames                   |
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from wavenet.config import AudioConfig, LocalConfig, MelConfig, WaveNetConfig
from wavenet.interop.assemble import ONE_SAMPLE_LATE, assemble, set_block, set_identity
from wavenet.interop.source import Fields, Imported, Source
from wavenet.presets import MEL_PRESETS
from wavenet.utils.errors import ConfigError

PROJECT = "NVIDIA/nv-wavenet"


def convert(source: Source) -> Imported:
    """Return a model of this project as ours."""
    weights = source.weights
    module = Fields(source.attributes, "the pickled module")
    shape = source.config.section("wavenet_config")
    max_dilation = module.integer("max_dilation", None) or shape.integer("max_dilation")
    cycle = math.floor(math.log2(max_dilation)) + 1
    count = weights.count("dilate_layers.{}.conv.weight")
    classes, width = weights.shape("embed.weight", 2)
    out_channels, skips, _ = weights.shape("conv_out.conv.weight", 3)
    tensors = source.new_tensors()
    local = _upsampling(source, tensors, module, shape)
    config = WaveNetConfig(
        quantization_channels=classes,
        dilations=tuple(2 ** (index % cycle) for index in range(count)),
        kernel_size=weights.shape("dilate_layers.0.conv.weight", 3)[2],
        residual_channels=width,
        gate_channels=2 * width,
        skip_channels=skips,
        head_channels=out_channels,
        local=local,
    )
    tensors["input.weight"] = weights.take("embed.weight", -1, -1).unsqueeze(0)
    rows = 2 * width * count
    conditioning = weights.take("cond_layers.conv.weight", rows, local.channels, 1).chunk(count)
    biases = weights.take("cond_layers.conv.bias", rows).chunk(count)
    for index in range(count):
        conv = weights.take(f"dilate_layers.{index}.conv.weight", 2 * width, width, -1)
        bias = weights.take(f"dilate_layers.{index}.conv.bias", 2 * width) + biases[index]
        set_block(
            tensors,
            index,
            conv=(conv, bias),
            skip=_pointwise(source, "skip_layers", index, skips, width),
            residual=_pointwise(source, "res_layers", index, width, width)
            if index < count - 1
            else None,
            conditioning=conditioning[index],
        )
    tensors["head.hidden.weight"] = weights.take("conv_out.conv.weight", -1, -1, 1)
    tensors["head.output.weight"] = weights.take("conv_end.conv.weight", -1, out_channels, 1)
    mel, notes = _mel(source, local)
    audio = AudioConfig(sample_rate=mel.sample_rate, mel=mel)
    return assemble(source, PROJECT, config, tensors, audio, (*notes, ONE_SAMPLE_LATE))


def _pointwise(
    source: Source, name: str, index: int, out: int, width: int
) -> tuple[Tensor, Tensor]:
    prefix = f"{name}.{index}.conv"
    return (
        source.weights.take(f"{prefix}.weight", out, width, 1),
        source.weights.take(f"{prefix}.bias", out),
    )


def _upsampling(
    source: Source, tensors: dict[str, Tensor], module: Fields, shape: Fields
) -> LocalConfig:
    kernel = source.weights.take("upsample.weight", -1, -1, -1)
    stride = _stride(module.values) or shape.integer("upsamp_stride")
    frames = -(-kernel.shape[-1] // stride)
    kernel = F.pad(kernel, (0, frames * stride - kernel.shape[-1]))  # zeros at its end
    bands = kernel.shape[1]
    set_identity(tensors, bands)
    tensors["local_conditioner.upsampling.0.conv.weight"] = kernel
    tensors["local_conditioner.upsampling.0.conv.bias"] = source.weights.take(
        "upsample.bias", bands
    )
    return LocalConfig(
        in_channels=bands,
        channels=bands,
        upsample_scales=(stride,),
        upsample="transposed",
        upsample_frames=frames,
    )


def _stride(module: Mapping[str, Any]) -> int | None:
    """Return the stride of the pickled module's upsampling."""
    modules = module.get("_modules")
    upsample = modules.get("upsample") if isinstance(modules, Mapping) else None
    stride = upsample.get("stride") if isinstance(upsample, Mapping) else None
    if isinstance(stride, list) and len(stride) == 1 and type(stride[0]) is int and stride[0] > 0:
        return stride[0]
    return None


def _mel(source: Source, local: LocalConfig) -> tuple[MelConfig, tuple[str, ...]]:
    data = source.config.section("data_config")
    preset, notes = MEL_PRESETS["nv_wavenet"], []
    rate = source.sample_rate or data.integer("sampling_rate", None)
    if rate is None:
        rate = preset.sample_rate
        notes.append(
            f"no sample_rate= and no data_config.sampling_rate given: {rate} Hz, as the project's"
        )
    mel = replace(
        preset,
        sample_rate=rate,
        n_fft=data.integer("filter_length", preset.n_fft),
        win_length=data.integer("win_length", preset.win_length),
        hop_length=local.hop_length,
        n_mels=local.in_channels,
        f_max=min(preset.f_max, rate / 2),
    )
    hop = data.integer("hop_length", local.hop_length)
    if hop != local.hop_length:
        raise ConfigError(
            f"{data.name}: hop_length is {hop}, the model's upsampling {local.hop_length}"
        )
    edge = local.upsample_frames - 1
    notes.append(
        f"before the first frame the project has zeros, here the first frame continues outwards: "
        f"the first {edge} frames differ"
    )
    return mel, tuple(notes)
