"""What fixes the shape of a model's weights, and what its signal means.

A config is a frozen dataclass that checks itself once; `wavenet.utils.dataclass_io` reads and writes it.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from wavenet.mel_presets import F0Config, FilterConfig, MelConfig, ScoreConfig
from wavenet.utils.dataclass_io import check, nearest
from wavenet.utils.errors import ConfigError, printable

# Values of `output_distribution`, each with the only `quantization_channels` that it allows, or
# None for any. `wavenet.distributions.register` adds to them.
OUTPUT_DISTRIBUTIONS: dict[str, int | None] = {
    "categorical": None,
    "logistic_mixture": 65536,
    "gaussian_mixture": 65536,
}


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """Shape of what turns frames of features into a condition for every sample.

    Attributes:
        in_channels: Numbers in a frame, such as mel bands.
        channels: Numbers that condition a sample.
        upsample_scales: Factors by which the rate rises, in order; their product is the hop.
        upsample: `nearest` repeats and smooths with a learnt kernel, `transposed` is a transposed
            convolution a factor, `repeat` learns nothing.
        kernel_size: Frames that the first convolution sees, its own and those before.
        lookahead: Frames after it that it sees too.
        context_dilations: Of a context stack, a second, smaller WaveNet over the frames; empty for
            none.
    """

    in_channels: int
    channels: int = 64
    upsample_scales: tuple[int, ...]
    upsample: Literal["nearest", "transposed", "repeat"] = "nearest"
    kernel_size: int = 1
    lookahead: int = 0
    context_dilations: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("in_channels", "channels"):
            check(1 <= getattr(self, name) <= 65536, name, "1 to 65536", getattr(self, name))
        check(
            bool(self.upsample_scales) and min(self.upsample_scales) >= 1,
            "upsample_scales",
            "1 or more",
            self.upsample_scales,
        )
        check(self.hop_length <= 65536, "the product of scales", "65536 at most", self.hop_length)
        check(1 <= self.kernel_size <= 1024, "kernel_size", "from 1 to 1024", self.kernel_size)
        check(0 <= self.lookahead <= 1024, "lookahead", "from 0 to 1024", self.lookahead)
        dilations = self.context_dilations
        check(min(dilations, default=1) >= 1, "context_dilations", "1 or more each", dilations)
        check(sum(dilations) <= 65536, "context_dilations", "65536 together at most", dilations)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.upsample_scales)


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """Shape of a `WaveNet`.

    Attributes:
        output_distribution: What a sample is drawn from: `categorical` over mu-law classes, or a
            `logistic_mixture` or `gaussian_mixture` over 16-bit codes.
        quantization_channels: Codes of a sample; 256 for mu-law of 8 bits, 65536 for the mixtures.
        num_mixtures: Densities of a mixture; 1 for a single one.
        min_log_scale: Smallest logarithm of a density's scale.
        input_type: What the first convolution sees: `embedding`, the class of each sample (one-hot), or
            `scalar`, its value.
        input_kernel_size: Taps of the first causal convolution.
        dilations: Samples between taps, one entry a block.
        kernel_size: Taps of each dilated convolution.
        residual_channels: Width of the path from block to block.
        gate_channels: Width of the gated convolution, tanh and sigmoid halves together.
        skip_channels: Width of the sum of all blocks that the head reads.
        head_channels: Width between the two last 1x1 convolutions.
        bias: Whether convolutions have biases.
        dropout: Probability of dropping an input of a dilated convolution in training.
        weight_norm: Whether convolution weights are learnt as length and direction.
        residual_scale: Factor on each block's sum of input and residual output.
        skip_scale: Factor on the sum of the skip outputs.
        num_speakers: Voices that condition the whole signal by number; 0 for none.
        global_in_channels: Numbers of a vector that conditions the whole signal; 0 for none.
        global_channels: Width of what a speaker or a vector becomes.
        unknown_rate: Share of training items whose speaker and vector are hidden, so that the model
            also learns to do without.
        local: Conditioning by frames; absent for none.
    """

    output_distribution: str = "categorical"
    quantization_channels: int = 256
    num_mixtures: int = 10
    min_log_scale: float = -14.0
    input_type: Literal["embedding", "scalar"] = "embedding"
    input_kernel_size: int = 1
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) * 3
    kernel_size: int = 2
    residual_channels: int = 64
    gate_channels: int = 128
    skip_channels: int = 256
    head_channels: int = 256
    bias: bool = True
    dropout: float = 0.0
    weight_norm: bool = False
    residual_scale: float = 1.0
    skip_scale: float = 1.0
    num_speakers: int = 0
    global_in_channels: int = 0
    global_channels: int = 16
    conditioning_dropout: float = 0.1
    local: LocalConfig | None = None

    def __post_init__(self) -> None:
        check(
            2 <= self.quantization_channels <= 65536,
            "quantization_channels",
            "from 2 to 65536",
            self.quantization_channels,
        )
        check(bool(self.dilations), "dilations", "one entry a block", self.dilations)
        check(min(self.dilations) >= 1, "dilations", "1 or more each", self.dilations)
        check(max(self.dilations) <= 2**24, "dilations", "2**24 at most", max(self.dilations))
        check(len(self.dilations) <= 1000, "dilations", "1000 at most", len(self.dilations))
        for name in ("kernel_size", "input_kernel_size"):
            check(1 <= getattr(self, name) <= 1024, name, "from 1 to 1024", getattr(self, name))
        for name in ("residual_channels", "gate_channels", "skip_channels", "head_channels"):
            check(1 <= getattr(self, name) <= 65536, name, "1 to 65536", getattr(self, name))
        check(self.gate_channels % 2 == 0, "gate_channels", "even", self.gate_channels)
        check(0.0 <= self.dropout < 1.0, "dropout", "in [0, 1)", self.dropout)
        for name in ("residual_scale", "skip_scale"):
            value = getattr(self, name)
            check(math.isfinite(value) and value > 0, name, "positive", value)
        self._check_output()
        for name in ("num_speakers", "global_in_channels"):
            check(0 <= getattr(self, name) <= 10**7, name, "0 or more", getattr(self, name))
        width = self.global_channels
        check(1 <= width <= 65536, "global_channels", "1 to 65536", width)
        check(
            0 <= self.conditioning_dropout < 1,
            "conditioning_dropout",
            "in [0, 1)",
            self.conditioning_dropout,
        )

    def _check_output(self) -> None:
        check(1 <= self.num_mixtures <= 1024, "num_mixtures", "from 1 to 1024", self.num_mixtures)
        least = self.min_log_scale
        check(-30 <= least <= 0, "min_log_scale", "from -30 to 0", least)
        name = self.output_distribution
        if name not in OUTPUT_DISTRIBUTIONS:
            hint = nearest(name, OUTPUT_DISTRIBUTIONS)
            raise ConfigError(f"unknown output_distribution {printable(name)!r}{hint}")
        num_classes, found = OUTPUT_DISTRIBUTIONS[name], self.quantization_channels
        wanted = f"{num_classes} for output_distribution={name}"
        check(num_classes in (None, found), "quantization_channels", wanted, found)

    @property
    def has_global_conditioning(self) -> bool:
        """Whether a speaker or a vector conditions the whole signal."""
        return bool(self.num_speakers or self.global_in_channels)

    @property
    def conditioning_channels(self) -> int:
        """Numbers that condition a sample: local ones first, then global ones."""
        width = self.global_channels if self.has_global_conditioning else 0
        return width + (self.local.channels if self.local is not None else 0)

    @property
    def receptive_field(self) -> int:
        """Past samples that the distribution of one sample depends on."""
        return self.input_kernel_size + (self.kernel_size - 1) * sum(self.dilations)

    def receptive_field_seconds(self, sample_rate: int) -> float:
        """Return the receptive field in seconds of audio at `sample_rate`."""
        return self.receptive_field / sample_rate

    @property
    def effective_kernel_sizes(self) -> tuple[int, ...]:
        """Samples from first to last tap of each block, both counted: k + (k-1)(dilation-1)."""
        k = self.kernel_size
        return tuple(k + (k - 1) * (dilation - 1) for dilation in self.dilations)


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """What a model's signal means outside the model, and what conditions it.

    A model with local conditioning sees the channels of those of `mel`, `f0` and `score` that
    are there, in this order.

    Attributes:
        sample_rate: Samples a second, in Hz.
        companding: How a categorical output's classes lie on [-1, 1].
        filter: What is done to recordings before the model hears them, and undone after.
        mel: How its mel spectrogram is made; absent for none.
        f0: How its F0 and voicing are found; absent for none.
        score: How its score becomes a roll; absent for none.
        speaker_names: Names of the voices, in the order of their numbers.
    """

    sample_rate: int = 16000
    companding: Literal["mu-law"] = "mu-law"
    filter: FilterConfig = field(default_factory=FilterConfig)
    mel: MelConfig | None = None
    f0: F0Config | None = None
    score: ScoreConfig | None = None
    speaker_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(1 <= self.sample_rate <= 768000, "sample_rate", "1 to 768000", self.sample_rate)
        for name, features in self.features.items():
            rate = features.sample_rate
            wanted = f"{self.sample_rate}, the audio's rate"
            check(rate == self.sample_rate, f"{name}.sample_rate", wanted, rate)
            hop = features.hop_length
            check(
                hop == self.hop_length,
                f"{name}.hop_length",
                f"{self.hop_length} as the others'",
                hop,
            )
        check(
            len(set(self.speaker_names)) == len(self.speaker_names),
            "speaker_names",
            "all different",
            "twins",
        )

    @property
    def features(self) -> dict[str, MelConfig | F0Config | ScoreConfig]:
        """What frames consist of, by name, in order."""
        named = {"mel": self.mel, "f0": self.f0, "score": self.score}
        return {name: features for name, features in named.items() if features is not None}

    @property
    def hop_length(self) -> int | None:
        """Samples from one frame to the next; absent where there are no frames."""
        return next((features.hop_length for features in self.features.values()), None)

    @property
    def channels(self) -> int:
        """Numbers in a frame; 0 where there are no frames."""
        return sum(features.channels for features in self.features.values())


def check_conditioning(model: WaveNetConfig, audio: AudioConfig) -> None:
    """Raise a `ConfigError` unless a model's conditions are those that its audio gives."""
    local, found = model.local, " and ".join(audio.features) or "no features"
    if local is None:
        form = f"{{channels: {audio.channels}, scales: [{audio.hop_length}]}}"
        wanted = f"there, for audio has {found}: model.local='{form}', with scales of that product"
        check(not audio.features, "model.local", wanted, "none")
    else:
        wanted = (
            "mel, pitch or notes, for model.local (the model's file says which audio= it wants)"
        )
        check(bool(audio.features), "audio", wanted, "none")
        channels = f"{audio.channels}, those of {found}"
        good = local.in_channels == audio.channels
        check(good, "model.local.in_channels", channels, local.in_channels)
        product = f"{audio.hop_length}, the hop of {found}"
        hop = f"{local.hop_length} from {list(local.upsample_scales)}"
        good = local.hop_length == audio.hop_length
        check(good, "the product of model.local.upsample_scales", product, hop)
    number = f"{len(audio.speaker_names)}, as many as audio.speaker_names"
    check(
        model.num_speakers == len(audio.speaker_names),
        "model.num_speakers",
        number,
        model.num_speakers,
    )
