"""Local conditioning of r9y9/wavenet_vocoder: upsampling, mel convention, filters."""

import re
from dataclasses import replace

from torch import Tensor

from wavenet.config import AudioConfig, FilterConfig, LocalConfig, MelConfig
from wavenet.interop.assemble import (
    audio_of_frames,
    required_rate,
    set_identity,
    with_statistics,
)
from wavenet.interop.source import Fields, Source, Weights
from wavenet.presets import MEL_PRESETS
from wavenet.utils.errors import CheckpointError, ConfigError

PRE_EMPHASIS = 0.85  # of its audio.py
SMOOTHING = "local_conditioner.upsampling.{}.smoothing.weight"
CONV = "local_conditioner.upsampling.{}.conv.{}"
EDGES = (
    "beyond the first and last frame the project has zeros in each stage of its upsampling, here "
    "the frames continue outwards: the samples of a frame or two at either end differ"
)


def convert_upsampling(source: Source, tensors: dict[str, Tensor], *, master: bool) -> LocalConfig:
    """Enter the weights that bring frames to the rate of samples, and return their config."""
    weights, fields = source.weights, source.config
    bands = weights.shape("conv_layers.0.conv1x1c.weight", 3)[1]
    if any(name.startswith("upsample_net.") for name in weights.names()):
        return convert_centered(weights, tensors, bands, r"up_layers\.(\d+)", step=2)
    if not master and "upsample_conv.0.weight" in weights:
        return _convert_bands(weights, tensors, bands)
    set_identity(tensors, bands)
    hop = _hop_length(fields, required_rate(source, fields.integer("sample_rate", None)))
    return LocalConfig(in_channels=bands, channels=bands, upsample_scales=(hop,), upsample="repeat")


def convert_centered(
    weights: Weights, tensors: dict[str, Tensor], bands: int, layer: str, *, step: int
) -> LocalConfig:
    """Enter `upsample_net`: a convolution over frames, if there is one, then smoothed repetition.

    Args:
        weights: Of the other project.
        tensors: Where they go.
        bands: Channels of a frame.
        layer: Pattern of a layer's name; its number is the first group.
        step: From the number of a layer to the next.
    """
    padding, conv_in = 0, "upsample_net.conv_in.weight"
    if conv_in in weights:
        kernel = weights.take(conv_in, bands, bands, -1)
        if kernel.shape[-1] % 2 == 0:
            raise CheckpointError(f"has {conv_in} of even length {kernel.shape[-1]}")
        padding = kernel.shape[-1] // 2
        tensors["local_conditioner.conv_in.weight"] = kernel
    else:
        set_identity(tensors, bands)
    found = {
        int(match[1]): name
        for name in weights.names()
        if (match := re.fullmatch(rf"upsample_net\.(?:upsample\.)?{layer}\.weight", name))
    }
    scales = []
    for stage, (number, name) in enumerate(sorted(found.items())):
        if number != stage * step + step - 1:
            raise CheckpointError(
                "has an activation between stages of its upsampling, which no recipe of its "
                "project has and which is not imported"
            )
        height, length = weights.shape(name, 4)[2:]
        if height != 1:
            raise CheckpointError(
                f"has an upsampling kernel over {height} mel bands and time, which no recipe of "
                "its project has and which is not imported"
            )
        tensors[SMOOTHING.format(stage)] = weights.take(name, 1, 1, 1, -1)[:, :, 0]
        scales.append(length // 2)
    return LocalConfig(
        in_channels=bands,
        channels=bands,
        upsample_scales=tuple(scales),
        upsample="centered",
        kernel_size=padding + 1,
        lookahead=padding,
    )


def _convert_bands(weights: Weights, tensors: dict[str, Tensor], bands: int) -> LocalConfig:
    scales, heights, number = [], [], 0
    while (name := f"upsample_conv.{2 * number}.weight") in weights:
        kernel = weights.take(name, 1, 1, -1, -1)
        tensors[CONV.format(number, "weight")] = kernel
        bias = weights.take(f"upsample_conv.{2 * number}.bias", 1)
        tensors[CONV.format(number, "bias")] = bias
        heights.append(kernel.shape[2])
        scales.append(kernel.shape[3])
        number += 1
    if len(set(heights)) > 1:
        raise CheckpointError(f"has upsampling kernels over {heights} bands, expected one number")
    set_identity(tensors, bands)
    return LocalConfig(
        in_channels=bands,
        channels=bands,
        upsample_scales=tuple(scales),
        upsample="bands",
        freq_axis_kernel_size=heights[0],
    )


def _hop_length(fields: Fields, rate: int) -> int:
    if "hop_size" in fields:
        return int(fields.integer("hop_size"))
    return round(rate * float(fields.number("frame_shift_ms")) / 1000)


def convert_audio(
    source: Source, local: LocalConfig, *, master: bool
) -> tuple[AudioConfig, tuple[str, ...]]:
    """Return the meaning of signal and frames by hparams, and notes."""
    fields = source.config
    rate = required_rate(source, fields.integer("sample_rate", None))
    hop, bands = _hop_length(fields, rate), fields.integer("num_mels", local.in_channels)
    if hop != local.hop_length:
        raise ConfigError(
            f"{fields.name}: frames are {hop} samples apart, the model's upsampling gives "
            f"{local.hop_length}"
        )
    if bands != local.in_channels:
        return _other_frames(source, local, rate, master=master)
    preset = MEL_PRESETS["r9y9"]
    n_fft = fields.integer("fft_size", preset.n_fft)
    mel = replace(
        preset,
        sample_rate=rate,
        n_fft=n_fft,
        hop_length=hop,
        win_length=fields.integer("win_length", n_fft),
        n_mels=bands,
        f_min=fields.number("fmin", 125.0),
        f_max=min(fields.number("fmax", 7600.0), rate / 2),
    )
    if not master:
        return AudioConfig(sample_rate=rate, mel=_old_mel(mel, fields)), (OLD_FRAMES,)
    mel, notes = with_statistics(mel, source)
    signal, more = _filter(fields, local)
    return AudioConfig(sample_rate=rate, mel=mel, filter=signal), (*notes, *more)


def _other_frames(
    source: Source, local: LocalConfig, rate: int, *, master: bool
) -> tuple[AudioConfig, tuple[str, ...]]:
    """Return the audio of a model whose frames have other channels than num_mels, and notes."""
    what = "features other than mel bands"
    audio, notes = audio_of_frames(source, local, what, rate)
    if not master:
        return audio, notes
    signal, more = _filter(source.config, local)
    return replace(audio, filter=signal), (*notes, *more)


def _filter(fields: Fields, local: LocalConfig) -> tuple[FilterConfig, tuple[str, ...]]:
    """Return the filter of master, and notes on it and on the upsampling."""
    notes = [EDGES] if local.upsample == "centered" else []
    high_pass = fields.number("highpass_cutoff", 0.0)
    if high_pass:
        notes.append(
            f"its high-pass at {high_pass:g} Hz, before all else and never undone, is left out"
        )
    kind = fields.text("preprocess", "")
    if kind not in ("", "preemphasis"):
        notes.append(f"preprocess={kind} is unknown and not applied")
    signal = FilterConfig(
        gain=fields.number("global_gain_scale", 1.0),
        pre_emphasis=PRE_EMPHASIS if kind == "preemphasis" else 0.0,
    )
    return signal, tuple(notes)


def _old_mel(mel: MelConfig, fields: Fields) -> MelConfig:
    """Return the mel convention of v0.1.x: decibels above a floor, mapped to 0 to 1."""
    floor = fields.number("min_level_db", -100.0)
    return replace(
        mel,
        log_base="decibel",
        log_floor=10 ** (floor / 20),
        mean=(fields.number("ref_level_db", 20.0) + floor,),
        std=(-floor,),
        clamp=True,
    )


OLD_FRAMES = (
    "v0.1.x computes frames by lws, whose window no mel convention here has and whose frames start "
    "where ours have their center: frames of recordings fit roughly, the project's own .npy frames "
    "exactly"
)
