"""The configs of a model: the shape of its weights, and what its signal and its frames mean.

A config is a frozen dataclass that checks itself; `wavenet.utils.dataclass_io` reads and writes it.
A model directory holds them in `config.json`, so that features made in another way are refused: a
foreign mel convention is the most frequent cause of bad vocoder sound.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from wavenet.feature_configs import F0Config as F0Config
from wavenet.feature_configs import FilterConfig as FilterConfig
from wavenet.feature_configs import FramesConfig as FramesConfig
from wavenet.feature_configs import MelConfig as MelConfig
from wavenet.feature_configs import PredictorConfig as PredictorConfig
from wavenet.feature_configs import ScoreConfig as ScoreConfig
from wavenet.utils.dataclass_io import Options, check, nearest, option
from wavenet.utils.errors import ConfigError, printable

# Values of `output_distribution`, each with the only `quantization_channels` that it allows, or
# None for any. `wavenet.distributions.register` adds to them.
OUTPUT_DISTRIBUTIONS: dict[str, int | None] = {
    "categorical": None,
    "logistic_mixture": 65536,
    "gaussian_mixture": 65536,
}
Companding = Literal[  # conventions of `wavenet.distributions.companding`
    "mu-law",
    "mu-law-lower-edge",
    "mu-law-floor",
    "mu-law-n-floor",
    "mu-law-n-grid",
    "mu-law-nsynth",
    "linear",
]
MAX_CHANNELS = 65536
MAX_SAMPLE_RATE = 768_000


@dataclass(frozen=True, kw_only=True)
class LocalConfig(Options):
    """Local conditioning: from frames of features to conditioning for every sample."""

    in_channels: int = option(
        help="Channels of a frame, such as mel bands", ge=1, le=MAX_CHANNELS, derived=True
    )
    channels: int = option(64, "Channels of the conditioning of a sample", ge=1, le=MAX_CHANNELS)
    upsample_scales: tuple[int, ...] = option(
        help="Upsampling factors in order; their product is the hop length",
        ge=1,
        min_length=1,
        derived=True,
    )
    upsample: Literal["nearest", "centered", "transposed", "shared", "bands", "repeat"] = option(
        "nearest",
        "Smoothed repetition that looks back, or both ways; transposed convolution, also one "
        "shared by all channels or over bands of them; repetition",
    )
    upsample_frames: int = option(
        2, "Frames that an output of transposed upsampling sees", ge=1, le=64, added=True
    )
    freq_axis_kernel_size: int = option(
        3, "Channels that an output of bands upsampling sees, odd", ge=1, le=1023, added=True
    )
    kernel_size: int = option(1, "Frames that the first convolution sees", ge=1, le=1024)
    lookahead: int = option(0, "Future frames that it sees in addition", ge=0, le=1024)
    context_dilations: tuple[int, ...] = option(
        (), "Dilations of a context stack, a small WaveNet over the frames; [] for none", ge=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hop_length <= 65536, "the product of scales", "65536 at most", self.hop_length)
        dilations, scales = self.context_dilations, self.upsample_scales
        check(len(scales) <= 64, "upsample_scales", "64 at most", len(scales))
        check(len(dilations) <= 1000, "context_dilations", "1000 at most", len(dilations))
        check(sum(dilations) <= 65536, "context_dilations", "65536 together at most", dilations)
        size = self.freq_axis_kernel_size
        check(size % 2 == 1, "freq_axis_kernel_size", "odd", size)
        frames, kind = self.upsample_frames, self.upsample
        wanted = f"2, the default, for upsample={kind}"
        check(kind == "transposed" or frames == 2, "upsample_frames", wanted, frames)
        wanted = f"3, the default, for upsample={kind}"
        check(kind == "bands" or size == 3, "freq_axis_kernel_size", wanted, size)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.upsample_scales)


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig(Options):
    """Shape of a `WaveNet`."""

    output_distribution: str = option(
        "categorical", "categorical, or logistic_mixture, gaussian_mixture over 16-bit codes"
    )
    quantization_channels: int = option(
        256, "Codes of a sample: 256 for 8-bit mu-law, 65536 for the mixtures", ge=2, le=65536
    )
    companding: Companding = option(
        "mu-law", "How a categorical output's classes divide [-1, 1]", added=True
    )
    num_mixtures: int = option(10, "Components of a mixture", ge=1, le=1024)
    min_log_scale: float = option(-14.0, "Lower bound of a component's log scale", ge=-30, le=0)
    input_type: Literal["embedding", "scalar", "mu-law"] = option(
        "embedding",
        "Input of the first convolution: one-hot class or value of a sample, or one-hot mu-law "
        "class of a 16-bit sample",
    )
    input_kernel_size: int = option(1, "Taps of the first causal convolution", ge=1, le=1024)
    dilations: tuple[int, ...] = option(
        (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) * 3,
        "Dilation of each residual block",
        ge=1,
        le=2**24,
        min_length=1,
    )
    kernel_size: int = option(2, "Taps of each dilated convolution", ge=1, le=1024)
    residual_channels: int = option(64, "Channels between blocks", ge=1, le=MAX_CHANNELS)
    gate_channels: int = option(
        128, "Channels of the gated convolution, tanh and sigmoid together", ge=1, le=MAX_CHANNELS
    )
    skip_channels: int = option(256, "Channels of the skip sum", ge=1, le=MAX_CHANNELS)
    head_channels: int = option(256, "Channels of the output head", ge=1, le=MAX_CHANNELS)
    bias: bool = option(True, "Convolutions have biases")
    dropout: float = option(0.0, "Dropout at the input of dilated convolutions", ge=0, lt=1)
    weight_norm: bool = option(False, "Weight normalization of the convolutions")
    residual_scale: float = option(
        1.0, "Factor on each block's sum of input and residual; sqrt(1/2) in some papers", gt=0
    )
    skip_scale: float = option(1.0, "Factor on the skip sum", gt=0)
    num_speakers: int = option(
        0, "Speakers of global conditioning; data.use_speakers=true sets it", ge=0, le=10**7
    )
    global_in_channels: int = option(
        0, "Channels of a global conditioning vector, given from Python; 0 for none", ge=0, le=10**7
    )
    global_channels: int = option(
        16, "Channels of the speaker embedding or projected vector", ge=1, le=MAX_CHANNELS
    )
    conditioning_dropout: float = option(
        0.1, "Share of items trained with the null speaker, for guidance and new voices", ge=0, lt=1
    )
    local: LocalConfig | None = option(
        None, "Local conditioning: on if audio has features; null for none", derived=True
    )
    predictor: PredictorConfig | None = option(
        None,
        "Linear predictor inside a mixture's density; null for none",
        added=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check(len(self.dilations) <= 1000, "dilations", "1000 at most", len(self.dilations))
        check(self.gate_channels % 2 == 0, "gate_channels", "even", self.gate_channels)
        name = self.output_distribution
        if name not in OUTPUT_DISTRIBUTIONS:
            hint = nearest(name, OUTPUT_DISTRIBUTIONS)
            raise ConfigError(f"unknown output_distribution {printable(name)!r}{hint}")
        num_classes, found = OUTPUT_DISTRIBUTIONS[name], self.quantization_channels
        wanted = f"{num_classes} for output_distribution={name}"
        check(num_classes in (None, found), "quantization_channels", wanted, found)
        names = get_args(Companding)
        wanted = f"one of {', '.join(names)}"
        if num_classes is not None:  # which has codes of its own
            names, wanted = ("mu-law",), f"mu-law, the default, for output_distribution={name}"
        check(self.companding in names, "companding", wanted, self.companding)
        wanted = f"embedding or scalar for output_distribution={name}"
        good = self.input_type != "mu-law" or self.quantization_channels == 65536
        check(good, "input_type", wanted, self.input_type)
        if self.predictor is not None:
            self._check_predictor(self.predictor)

    def _check_predictor(self, predictor: PredictorConfig) -> None:
        name, local, mel = self.output_distribution, self.local, predictor.mel
        good = name.endswith("_mixture")  # an 8-bit past would be predicted with its rounding noise
        wanted = "logistic_mixture or gaussian_mixture, over 16-bit codes, for model.predictor"
        check(good, "output_distribution", wanted, name)
        if mel is None:  # source=past
            return
        if local is None:
            raise ConfigError(
                "model.predictor needs mel frames, but there is no model.local: without it, use "
                "predictor.source=past"
            )
        wanted = f"{mel.n_mels} or more, predictor.mel.n_mels"
        check(local.in_channels >= mel.n_mels, "local.in_channels", wanted, local.in_channels)
        wanted = f"{mel.hop_length}, predictor.mel.hop_length"
        good = local.hop_length == mel.hop_length
        check(good, "the product of local.upsample_scales", wanted, local.hop_length)

    @property
    def has_global_conditioning(self) -> bool:
        """Whether a speaker or a vector conditions the model."""
        return bool(self.num_speakers or self.global_in_channels)

    @property
    def conditioning_channels(self) -> int:
        """Channels of the conditioning of a sample: local ones first, then global ones."""
        width = self.global_channels if self.has_global_conditioning else 0
        return width + (self.local.channels if self.local is not None else 0)

    @property
    def receptive_field(self) -> int:
        """Past samples that the distribution of one sample depends on."""
        past = 0 if self.predictor is None else self.predictor.receptive_field
        return self.input_kernel_size + (self.kernel_size - 1) * sum(self.dilations) + past

    def receptive_field_seconds(self, sample_rate: int) -> float:
        """Return the receptive field in seconds of audio at `sample_rate`."""
        return self.receptive_field / sample_rate


@dataclass(frozen=True, kw_only=True)
class AudioConfig(Options):
    """Meaning of a model's signal outside the model, and the features that condition it.

    Local conditioning has the channels of `mel`, `f0`, `score` and `frames`, as far as present, in
    this order.
    """

    sample_rate: int = option(
        16000, "Sample rate in Hz; that of mel, or 16000", ge=1, le=MAX_SAMPLE_RATE, derived=True
    )
    filter: FilterConfig = option(FilterConfig(), "Filters before the model, undone after it")
    mel: MelConfig | None = option(
        None, "Mel spectrogram as conditioning: a preset by name, or a mapping"
    )
    f0: F0Config | None = option(None, "F0 and voicing as conditioning")
    score: ScoreConfig | None = option(None, "Score as conditioning")
    frames: FramesConfig | None = option(
        None, "Frames in files beside the recordings as conditioning, of any meaning", added=True
    )
    speaker_names: tuple[str, ...] = option(
        (), "Speakers in order of their numbers; data.use_speakers=true takes them from the data"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, features in self.features.items():
            rate = features.sample_rate
            wanted = f"{self.sample_rate}, as audio.sample_rate"
            check(rate == self.sample_rate, f"{name}.sample_rate", wanted, rate)
            hop = features.hop_length
            wanted = f"{self.hop_length} as the others'"
            check(hop == self.hop_length, f"{name}.hop_length", wanted, hop)
        names = self.speaker_names
        check(len(set(names)) == len(names), "speaker_names", "all different", list(names))

    @property
    def features(self) -> dict[str, MelConfig | F0Config | ScoreConfig | FramesConfig]:
        """The features that frames consist of, by name, in order."""
        named = {"mel": self.mel, "f0": self.f0, "score": self.score, "frames": self.frames}
        return {name: features for name, features in named.items() if features is not None}

    @property
    def hop_length(self) -> int | None:
        """Samples from one frame to the next; `None` without features."""
        return next((features.hop_length for features in self.features.values()), None)

    @property
    def channels(self) -> int:
        """Channels of a frame; 0 without features."""
        return sum(features.channels for features in self.features.values())


def check_conditioning(model: WaveNetConfig, audio: AudioConfig) -> None:
    """Raise a `ConfigError` unless a model's conditioning is what its audio provides."""
    local, found = model.local, " and ".join(audio.features) or "no features"
    if local is None:
        check(not audio.features, "model.local", f"a mapping, for audio has {found}", "none")
    else:
        wanted = "there for model.local (the model's file names its preset)"
        features = "audio.mel, audio.f0, audio.score or audio.frames"
        check(bool(audio.features), features, wanted, "none")
        channels = f"{audio.channels}, those of {found}"
        good = local.in_channels == audio.channels
        check(good, "model.local.in_channels", channels, local.in_channels)
        product = f"{audio.hop_length}, the hop length of {found}"
        hop = f"{local.hop_length} from {list(local.upsample_scales)}"
        good = local.hop_length == audio.hop_length
        check(good, "the product of model.local.upsample_scales", product, hop)
    if model.predictor is not None and model.predictor.source == "mel":
        _check_predictor(model.predictor, audio)
    count, names = model.num_speakers, len(audio.speaker_names)
    check(count == names, "model.num_speakers", f"{names}, as audio.speaker_names has", count)


def check_frames(model: WaveNetConfig, audio: AudioConfig) -> None:
    """Raise a `ConfigError` unless a model's local conditioning is what its audio describes.

    A model directory may hold another model, whose frames only its user can make.
    """
    local = model.local
    needed = None if local is None else (local.in_channels, local.hop_length)
    described = (audio.channels, audio.hop_length) if audio.features else None
    if needed == described:
        return
    found = [
        "no frames"
        if frames is None
        else f"frames of {frames[0]} channels every {frames[1]} samples"
        for frames in (needed, described)
    ]
    raise ConfigError(
        f"the model needs {found[0]}, but its audio config describes {found[1]}: only Python can "
        "give them, with wavenet.make_sampler(model).generate"
        + ("(local=frames)" if local is not None else "()")
    )


def _check_predictor(predictor: PredictorConfig, audio: AudioConfig) -> None:
    if audio.mel is None:
        found = " and ".join(audio.features)
        raise ConfigError(
            f"model.predictor needs audio.mel: {found} does not hold the spectrum of the signal; "
            "model.predictor.source=past needs none"
        )
    check(predictor.mel == audio.mel, "model.predictor.mel", "audio.mel", "another convention")
    good = audio.filter == FilterConfig()
    wanted = "off for model.predictor: the mel spectrogram is that of the recording"
    check(good, "audio.filter", wanted, "on")
