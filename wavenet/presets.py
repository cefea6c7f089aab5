"""Configs by name: mel conventions of other projects, and the ladder of model sizes.

Also what differs between two mel conventions, and how numbers of one become those of the other.
"""

import dataclasses
from dataclasses import replace

from wavenet.config import MelConfig, WaveNetConfig
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import ConfigError, printable

# NVIDIA/tacotron2 and NVIDIA/waveglow, hparams.py and config.json; the paper's are others, at
# 24 kHz with a floor of 0.01
TACOTRON2 = MelConfig(
    sample_rate=22050,
    n_fft=1024,
    hop_length=256,
    win_length=1024,
    f_max=8000.0,
    pad_mode="reflect",
)
# r9y9/wavenet_vocoder, master, egs/*/conf and audio.py, after a high-pass at 70 Hz; v0.1.1 has
# frames that are not centred alike, and so no name here. Like the three presets of kan-bayashi, it
# takes log10 and floors it at 1e-10; mean and deviation of each band are the corpus's.
R9Y9 = replace(TACOTRON2, f_min=125.0, f_max=7600.0, log_base="log10", log_floor=1e-10)

MEL_PRESETS = {
    # ours, for the recipes: 10 ms frames of 40 or 50 ms
    "8khz": MelConfig(
        sample_rate=8000, n_fft=512, hop_length=80, win_length=320, n_mels=64, f_max=4000.0
    ),
    "16khz": MelConfig(
        sample_rate=16000, n_fft=1024, hop_length=160, win_length=800, n_mels=80, f_max=8000.0
    ),
    "tacotron2": TACOTRON2,
    # NVIDIA/nv-wavenet, pytorch/config.json: Tacotron 2's at 16 kHz
    "nv_wavenet": replace(TACOTRON2, sample_rate=16000, n_fft=800, hop_length=200, win_length=800),
    "r9y9": R9Y9,
    # kan-bayashi/PytorchWaveNetVocoder, egs/ljspeech/sd-melspc since October 2019 (11.61 ms; 5 ms
    # before), after a high-pass at 70 Hz
    "kan_bayashi": replace(R9Y9, f_min=0.0, f_max=11025.0),
    # kan-bayashi/ParallelWaveGAN, egs/ljspeech/voc1, and ESPnet at 22.05 kHz
    "parallel_wavegan": replace(R9Y9, f_min=80.0),
    # kan-bayashi/ParallelWaveGAN, egs/jsut/voc1 and others at 24 kHz
    "parallel_wavegan_24khz": replace(
        R9Y9, sample_rate=24000, n_fft=2048, hop_length=300, win_length=1200, f_min=80.0
    ),
    # fatchord/WaveRNN, hparams.py and utils/dsp.py: decibels, -100 to 0 mapped to 0 to 1
    "wavernn": replace(
        TACOTRON2,
        n_fft=2048,
        hop_length=275,
        win_length=1100,
        f_min=40.0,
        f_max=11025.0,
        log_base="decibel",
        mean=(-100.0,),
        std=(100.0,),
        clamp=True,
    ),
}

# `model=small` of the commands, `sizes=[small]` of the benchmarks
MODEL_SIZES = {
    "small": WaveNetConfig(  # hours on a laptop
        dilations=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512) * 2,
        residual_channels=32,
        gate_channels=64,
        skip_channels=128,
        head_channels=128,
    ),
    "medium": WaveNetConfig(),  # a day on a GPU
    "large": WaveNetConfig(  # the shape of Tacotron 2's vocoder
        dilations=(1, 2, 4, 8, 16, 32) * 4,
        kernel_size=3,
        residual_channels=128,
        gate_channels=256,
        skip_channels=128,
        head_channels=128,
    ),
}


def mel_preset(name: str, *others: str) -> MelConfig:
    """Return one of `MEL_PRESETS`.

    Raises:
        ConfigError: There is no such preset; the message has the nearest, or one of `others`.
    """
    if name not in MEL_PRESETS:
        known = nearest(name, [*MEL_PRESETS, *others])
        raise ConfigError(f"no mel preset {printable(name)!r}{known}")
    return MEL_PRESETS[name]


def mel_mismatch(wanted: MelConfig, found: MelConfig) -> str | None:
    """Return in words where two conventions differ; `None` where they do not.

    Mean and deviation do not count: `renormalize` converts them without loss.
    """
    lines = []
    for field in dataclasses.fields(MelConfig):
        there, ours = getattr(found, field.name), getattr(wanted, field.name)
        if there != ours and field.name not in ("mean", "std"):
            lines.append(f"{field.name}: {there} there, {ours} wanted")
    return "another mel convention than the model's: " + "; ".join(lines) if lines else None


def renormalize(wanted: MelConfig, found: MelConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the factor and the summand of each band that make numbers of `found` `wanted`'s."""
    numbers = found.mean, found.std, wanted.mean, wanted.std
    per_band = [values * (wanted.n_mels // len(values)) for values in numbers]
    bands = list(zip(*per_band, strict=True))
    factors = tuple(std / wanted_std for _, std, _, wanted_std in bands)
    summands = tuple(
        (mean - wanted_mean) / wanted_std for mean, _, wanted_mean, wanted_std in bands
    )
    return factors, summands
