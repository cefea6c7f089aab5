"""The configs of features and filters: how frames are made from a waveform, and what is undone.

`wavenet.config` exports them and has the config of a model's audio, which holds them.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from wavenet.utils.dataclass_io import Options, check, option
from wavenet.utils.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MelConfig(Options):
    """Log-mel spectrogram of a waveform.

    Frame `f` is centered on sample `f * hop_length`; it conditions the samples from there to the
    next frame's. With `m` the mel spectrum, it holds `(log(max(m, log_floor)) - mean) / std`.
    """

    sample_rate: int = option(help="Sample rate of the waveform in Hz", ge=1, derived=True)
    n_fft: int = option(help="Size of the FFT", ge=1, le=65536)
    hop_length: int = option(help="Samples from one frame to the next", ge=1, le=65536)
    win_length: int = option(help="Samples of the Hann window", ge=1, le=65536)
    n_mels: int = option(80, "Number of mel bands", ge=1, le=1024)
    f_min: float = option(0.0, "Lower end of the lowest band in Hz", ge=0)
    f_max: float = option(help="Upper end of the highest band in Hz", gt=0)
    power: Literal[1, 2] = option(1, "Exponent of the spectrum: 1 for magnitude, 2 for power")
    mel_scale: Literal["slaney", "htk"] = option("slaney", "Formula of the mel scale")
    norm: Literal["slaney", "none"] = option(
        "slaney", "Divide each band by its width, or have bands with peaks of 1"
    )
    log_base: Literal["natural", "log10", "decibel"] = option(
        "natural", "Logarithm; decibel is 20 log10 of a magnitude, 10 log10 of a power"
    )
    log_floor: float = option(1e-5, "Lower bound before the logarithm", gt=0)
    pad_mode: Literal["constant", "reflect"] = option("constant", "Padding at both ends")
    mean: tuple[float, ...] = option((0.0,), "Subtracted: one number, or one for each band")
    std: tuple[float, ...] = option((1.0,), "Divided by: one number, or one for each band", gt=0)
    clamp: bool = option(False, "Limit the result to [0, 1]")

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.win_length
        check(size <= self.n_fft, "win_length", f"{self.n_fft} at most, as n_fft", size)
        _check_frequencies(self.f_min, self.f_max, self.sample_rate)
        for name in ("mean", "std"):
            length = len(getattr(self, name))
            check(length in (1, self.n_mels), name, f"1 or {self.n_mels} numbers", length)

    @property
    def channels(self) -> int:
        """Channels of a frame."""
        return self.n_mels


@dataclass(frozen=True, kw_only=True)
class PredictorConfig(Options):
    """Linear prediction of each sample from those before it.

    Its coefficients come from the mel frames, or from the samples before (`source=past`).
    """

    source: Literal["mel", "past"] = option(
        "mel", "What gives the coefficients: mel frames, or the past of the signal", added=True
    )
    order: int = option(16, "Past samples that a prediction sees", ge=1, le=1024)
    subframes: int = option(4, "Parts of a mel frame with coefficients of their own", ge=1, le=64)
    window_length: int = option(
        256, "Samples that give the coefficients; for source=past", ge=16, le=4096, added=True
    )
    interval: int = option(
        16, "Samples from coefficients to the next ones; for source=past", ge=1, le=4096, added=True
    )
    mel: MelConfig | None = option(None, "Meaning of the mel frames; audio.mel", derived=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "past":
            self._check_past()
            return
        if self.mel is None:
            raise ConfigError("predictor.mel is missing: source=mel needs mel frames")
        order, half = self.order, self.mel.n_fft // 2
        check(order < half, "predictor.order", f"under {half}, half of mel.n_fft", order)
        size = self.mel.n_fft  # tables take its square
        check(size <= 8192, "predictor.mel.n_fft", "8192 at most", size)
        subframes, hop = self.subframes, self.mel.hop_length
        check(subframes <= hop, "predictor.subframes", f"{hop} at most, mel.hop_length", subframes)
        for name in ("window_length", "interval"):
            default = getattr(PredictorConfig, name)
            wanted = f"{default}, the default, for predictor.source=mel"
            found = getattr(self, name)
            check(found == default, f"predictor.{name}", wanted, found)

    def _check_past(self) -> None:
        order, length = self.order, self.window_length
        check(order < length, "predictor.order", f"under {length}, predictor.window_length", order)
        check(self.mel is None, "predictor.mel", "null for predictor.source=past", "a mel")
        default = PredictorConfig.subframes
        wanted = f"{default}, the default, for predictor.source=past"
        check(self.subframes == default, "predictor.subframes", wanted, self.subframes)

    @property
    def receptive_field(self) -> int:
        """Past samples that the prediction of one depends on."""
        if self.source == "mel":
            return self.order
        return self.window_length + self.interval - 1


@dataclass(frozen=True, kw_only=True)
class F0Config(Options):
    """F0 and voicing, found by pYIN (Mauch and Dixon 2014): three channels per frame.

    The channels are log2(F0 / 100 Hz), continued where the voice is silent; 1 where it is voiced, 0
    elsewhere; and the probability of voicing.
    """

    sample_rate: int = option(help="Sample rate of the waveform in Hz", ge=1, derived=True)
    hop_length: int = option(help="Samples from one frame to the next", ge=1, derived=True)
    f_min: float = option(60.0, "Lowest F0 in Hz", gt=0)
    f_max: float = option(500.0, "Highest F0 in Hz, at least an octave above", gt=0)
    channels: ClassVar[int] = 3  # of a frame

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_frequencies(self.f_min, self.f_max, self.sample_rate)
        octave = self.f_max >= 2 * self.f_min
        check(octave, "f_max", f"{2 * self.f_min:g} or more, an octave above f_min", self.f_max)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Options):
    """Piano roll of a score: two channels per pitch, its onsets and where it sounds."""

    sample_rate: int = option(help="Sample rate of the waveform in Hz", ge=1, derived=True)
    hop_length: int = option(help="Samples from one frame to the next", ge=1, derived=True)
    midi_min: int = option(21, "MIDI number of the lowest pitch", ge=0, le=127)
    midi_max: int = option(108, "MIDI number of the highest pitch", ge=0, le=127)

    def __post_init__(self) -> None:
        super().__post_init__()
        lowest = self.midi_min
        check(lowest <= self.midi_max, "midi_min", f"{self.midi_max} (midi_max) at most", lowest)

    @property
    def pitches(self) -> int:
        """Number of pitches; the roll has two channels for each."""
        return self.midi_max - self.midi_min + 1

    @property
    def channels(self) -> int:
        """Channels of a frame."""
        return 2 * self.pitches


@dataclass(frozen=True, kw_only=True)
class FramesConfig(Options):
    """Frames that come as files, of which only the shape is known.

    Such as WORLD's or linguistic features, or a code of the speaker over time. Frame `f` conditions
    the samples from `f * hop_length` to the next frame's; the model gets `(frame - mean) / std`.
    """

    sample_rate: int = option(help="Sample rate of the waveform in Hz", ge=1, derived=True)
    hop_length: int = option(
        help="Samples from one frame to the next", ge=1, le=65536, derived=True
    )
    channels: int = option(help="Channels of a frame", ge=1, le=65536)
    description: str = option("", "What the channels hold, for the model card")
    mean: tuple[float, ...] = option((0.0,), "Subtracted: one number, or one for each channel")
    std: tuple[float, ...] = option((1.0,), "Divided by: one number, or one for each channel", gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean", "std"):
            length = len(getattr(self, name))
            check(length in (1, self.channels), name, f"1 or {self.channels} numbers", length)

    @property
    def shape(self) -> str:
        """Shape of an array of frames, in words."""
        return f"({self.channels}, F), a frame every {self.hop_length} samples"


@dataclass(frozen=True, kw_only=True)
class FilterConfig(Options):
    """Filters applied to recordings before the model, and undone after it."""

    gain: float = option(1.0, "Factor on the samples", ge=1e-4, le=1e4)
    low_shelf_hz: float = option(
        0.0, "Corner in Hz of a shelf that takes 20 dB from lower frequencies; 0 for none", ge=0
    )
    pre_emphasis: float = option(0.0, "Coefficient a of 1 - a / z; 0 for none", ge=0, le=0.99)
    noise_shaping: float = option(
        0.0, "Strength of noise shaping by the average spectrum of the data", ge=0, le=1
    )
    predictor: tuple[float, ...] = option(
        (), "Linear predictor of noise shaping, measured on the training audio"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        corner = self.low_shelf_hz
        check(corner == 0 or corner >= 10, "low_shelf_hz", "10 or more, or 0 for none", corner)


def _check_frequencies(f_min: float, f_max: float, sample_rate: int) -> None:
    limits = f"f_min < f_max <= {sample_rate / 2:g}, half the sample rate"
    check(f_min < f_max <= sample_rate / 2, "f_min and f_max", limits, (f_min, f_max))
