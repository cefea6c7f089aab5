"""kan-bayashi/PytorchWaveNetVocoder, and ESPnet's `nets/pytorch_backend/wavenet.py` alike.

Files: `checkpoint-*.pkl` with the state dict under `model`, and `model.conf`, a pickled Namespace.

| theirs                               | ours                                                     |
| ------------------------------------ | -------------------------------------------------------- |
| `causal.conv` on one-hot classes     | input embedding of as many taps                          |
| `dil_tanh`, `dil_sigmoid`            | halves of the gated convolution                          |
| `aux_1x1_tanh`, `aux_1x1_sigmoid`    | halves of the conditioning; biases added to those above  |
| `skip_1x1`, `res_1x1`                | skip and residual; the last residual is read by nobody   |
| `conv_post_1`, `conv_post_2`         | head                                                     |
| `upsampling.conv`, or repeated frames | upsampling `shared` or `repeat`                         |
"""

from dataclasses import replace

import torch
from torch import Tensor

from wavenet.config import AudioConfig, LocalConfig, WaveNetConfig
from wavenet.interop.assemble import (
    ONE_SAMPLE_LATE,
    assemble,
    audio_of_frames,
    dilation_cycle,
    required_rate,
    set_block,
    set_identity,
    with_statistics,
)
from wavenet.interop.source import Imported, Source
from wavenet.presets import MEL_PRESETS
from wavenet.utils.errors import ConfigError

PROJECT = "kan-bayashi/PytorchWaveNetVocoder"
MEL_CHANNELS = 80  # taken for a mel spectrogram where there is no model.conf
NO_NOISE_SHAPING = "its noise shaping is a filter outside the model, which is not imported"
DEPTH = 10  # blocks of a cycle in all of its recipes


def convert(source: Source) -> Imported:
    """Return a model of this project as ours."""
    weights, fields = source.weights, source.config
    count = weights.count("dil_tanh.{}.conv.weight")
    channels, classes, taps = weights.shape("causal.conv.weight", 3)
    skip_channels = weights.shape("conv_post_1.weight", 3)[0]
    bands = weights.shape("aux_1x1_tanh.0.weight", 3)[1]
    tensors = source.new_tensors()
    local = _upsampling(source, tensors, bands)
    config = WaveNetConfig(
        quantization_channels=classes,
        companding="mu-law-lower-edge",
        input_kernel_size=taps,
        dilations=dilation_cycle(count, _cycles(source, count), fields.name),
        kernel_size=weights.shape("dil_tanh.0.conv.weight", 3)[2],
        residual_channels=channels,
        gate_channels=2 * channels,
        skip_channels=skip_channels,
        head_channels=skip_channels,
        local=local,
    )
    tensors["input.weight"] = weights.take("causal.conv.weight", -1, -1, -1).permute(2, 1, 0)
    tensors["input.bias"] = weights.take("causal.conv.bias", channels)
    for index in range(count):
        _set_block(source, tensors, index, config)
    for name, theirs in (("hidden", "conv_post_1"), ("output", "conv_post_2")):
        tensors[f"head.{name}.weight"] = weights.take(f"{theirs}.weight", -1, skip_channels, 1)
        tensors[f"head.{name}.bias"] = weights.take(f"{theirs}.bias", -1)
    audio, notes = _audio(source, local)
    return assemble(source, PROJECT, config, tensors, audio, (*notes, ONE_SAMPLE_LATE))


def _cycles(source: Source, count: int) -> int:
    repeat = source.config.integer("dilation_repeat", None)
    if repeat is None and count % DEPTH:
        raise ConfigError(
            f"{count} blocks are not cycles of {DEPTH}: add config=model.conf, which has "
            "dilation_repeat"
        )
    return int(repeat or count // DEPTH)


def _set_block(
    source: Source, tensors: dict[str, Tensor], index: int, config: WaveNetConfig
) -> None:
    weights, width, skips = source.weights, config.residual_channels, config.skip_channels
    conv, biases, conditioning = [], [], []
    assert config.local is not None
    for half in ("tanh", "sigmoid"):
        conv.append(
            weights.take(f"dil_{half}.{index}.conv.weight", width, width, config.kernel_size)
        )
        aux = f"aux_1x1_{half}.{index}"
        conditioning.append(weights.take(f"{aux}.weight", width, config.local.in_channels, 1))
        bias = weights.take(f"dil_{half}.{index}.conv.bias", width)
        biases.append(bias + weights.take(f"{aux}.bias", width))
    residual = (
        weights.take(f"res_1x1.{index}.weight", width, width, 1),
        weights.take(f"res_1x1.{index}.bias", width),
    )
    set_block(
        tensors,
        index,
        conv=(torch.cat(conv), torch.cat(biases)),
        skip=(
            weights.take(f"skip_1x1.{index}.weight", skips, width, 1),
            weights.take(f"skip_1x1.{index}.bias", skips),
        ),
        residual=residual if index < len(config.dilations) - 1 else None,
        conditioning=torch.cat(conditioning),
    )


def _upsampling(source: Source, tensors: dict[str, Tensor], bands: int) -> LocalConfig:
    """Enter the upsampling; without a layer of its own, each frame is repeated."""
    weights = source.weights
    set_identity(tensors, bands)
    if "upsampling.conv.weight" not in weights:
        hop = source.config.integer("upsampling_factor")
        return LocalConfig(
            in_channels=bands, channels=bands, upsample_scales=(hop,), upsample="repeat"
        )
    kernel = weights.take("upsampling.conv.weight", 1, 1, 1, -1).squeeze(0)
    tensors["local_conditioner.upsampling.0.conv.weight"] = kernel
    tensors["local_conditioner.upsampling.0.conv.bias"] = weights.take("upsampling.conv.bias", 1)
    return LocalConfig(
        in_channels=bands, channels=bands, upsample_scales=(kernel.shape[-1],), upsample="shared"
    )


def _audio(source: Source, local: LocalConfig) -> tuple[AudioConfig, tuple[str, ...]]:
    fields, bands = source.config, local.in_channels
    kind = fields.text("feature_type", "melspc" if bands == MEL_CHANNELS else "unknown")
    has_code = fields.truth("use_speaker_code", False)
    rate = required_rate(source, fields.integer("fs", None), ", such as 22050 for LJSpeech")
    if kind != "melspc" or has_code:
        name = "WORLD" if kind == "world" else kind
        code = " with the code of the speaker" * has_code
        audio, notes = audio_of_frames(source, local, f"{name} features{code}", rate)
        return audio, (*notes, NO_NOISE_SHAPING)
    mel = replace(
        MEL_PRESETS["kan_bayashi"],
        sample_rate=rate,
        n_mels=bands,
        hop_length=local.hop_length,
        f_max=rate / 2,
    )
    mel, notes = with_statistics(mel, source)
    convention = (
        "its mel convention, which the file does not tell, is taken as that of its LJSpeech recipe"
    )
    return AudioConfig(sample_rate=rate, mel=mel), (*notes, convention, NO_NOISE_SHAPING)
