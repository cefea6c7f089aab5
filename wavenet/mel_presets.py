"""What the frames of local conditioning mean: how each kind is made from a recording.

All of it is plain data that lies in the checkpoint, so that frames made otherwise are refused and
not turned into noise: a foreign mel convention is the most frequent cause of bad vocoder sound.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from wavenet.utils.dataclass_io import check


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """How a log-mel spectrogram is made from a waveform.

    Frame `f` is centred on sample `f * hop_length`; it conditions samples from there to the next
    frame's. With `m` the mel spectrum, it holds `(log(max(m, floor)) - mean) / std`.

    Attributes:
        sample_rate: Of the waveform, in Hz.
        fft_size: Samples of the Fourier transform.
        hop_length: Samples from one frame to the next.
        window_size: Samples of the Hann window.
        n_mels: Mel bands.
        f_min: Lower end of the lowest band, in Hz.
        f_max: Upper end of the highest band, in Hz.
        power: Of the spectrum that is summed: 1 for magnitude, 2 for energy.
        mel_scale: Formula of the mel scale: `slaney` (librosa's default) or `htk`.
        norm: `slaney` divides each band by its width; `none` has bands with peaks of 1.
        log_base: `natural`, `log10`, or `decibel` (20 log10 of a magnitude, 10 log10 of an energy).
        log_floor: Smallest value before the logarithm.
        pad_mode: What lies before the first and after the last sample: `constant` (silence) or
            `reflect`.
        mean: Subtracted from each band; one number for all, or one a band.
        std: Then divided by; one number for all, or one a band.
        clamp: Limit the result to [0, 1].
    """

    sample_rate: int
    n_fft: int
    hop_length: int
    win_length: int
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float
    power: Literal[1, 2] = 1
    mel_scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney", "none"] = "slaney"
    log_base: Literal["natural", "log10", "decibel"] = "natural"
    log_floor: float = 1e-5
    pad_mode: Literal["constant", "reflect"] = "constant"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    clamp: bool = False

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_length", "win_length", "n_mels"):
            check(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        size = self.win_length
        check(size <= self.n_fft, "win_length", f"{self.n_fft} at most, fft_size", size)
        limits = f"0 <= fmin < fmax <= {self.sample_rate / 2:g}, half the rate"
        good = 0 <= self.f_min < self.f_max <= self.sample_rate / 2
        check(good, "fmin and fmax", limits, (self.f_min, self.f_max))
        check(self.log_floor > 0, "floor", "positive", self.log_floor)
        for name in ("mean", "std"):
            length = len(getattr(self, name))
            check(length in (1, self.n_mels), name, f"1 or {self.n_mels} numbers", length)
        check(min(self.std) > 0, "std", "positive", min(self.std))

    @property
    def channels(self) -> int:
        """Numbers in a frame."""
        return self.n_mels


@dataclass(frozen=True, kw_only=True)
class F0Config:
    """How F0 and voicing are found (pYIN, Mauch and Dixon 2014): three channels a frame.

    The channels are log2(F0 / 100 Hz), carried on where the voice is silent; 1 where it is
    voiced, 0 elsewhere; and the probability of voicing.

    Attributes:
        sample_rate: Of the waveform, in Hz.
        hop_length: Samples from one frame to the next.
        f_min: Lowest F0, in Hz.
        f_max: Highest F0, in Hz.
    """

    sample_rate: int
    hop_length: int
    f_min: float = 60.0
    f_max: float = 500.0

    def __post_init__(self) -> None:
        check(self.hop_length >= 1, "hop_length", "1 or more", self.hop_length)
        limits = f"0 < fmin < fmax <= {self.sample_rate / 2:g}, half the rate"
        good = 0 < self.f_min < self.f_max <= self.sample_rate / 2
        check(good, "fmin and fmax", limits, (self.f_min, self.f_max))
        octave = self.f_max >= 2 * self.f_min
        check(octave, "fmax", f"{2 * self.f_min:g} or more, an octave above fmin", self.f_max)

    @property
    def channels(self) -> int:
        """Numbers in a frame."""
        return 3


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How a score becomes a roll: two channels a pitch, where it starts and where it sounds.

    Attributes:
        sample_rate: Of the waveform, in Hz.
        hop_length: Samples from one frame to the next.
        midi_min: MIDI number of the lowest pitch.
        midi_max: MIDI number of the highest pitch.
    """

    sample_rate: int
    hop_length: int
    midi_min: int = 21
    midi_max: int = 108

    def __post_init__(self) -> None:
        check(self.hop_length >= 1, "hop_length", "1 or more", self.hop_length)
        pitches = (self.midi_min, self.midi_max)
        check(0 <= self.midi_min <= self.midi_max <= 127, "pitches", "from 0 to 127", pitches)

    @property
    def pitches(self) -> int:
        """How many pitches the roll has; its channels are twice as many."""
        return self.midi_max - self.midi_min + 1

    @property
    def channels(self) -> int:
        """Numbers in a frame."""
        return 2 * self.pitches


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """The steps between a recording and the signal that a model learns.

    Attributes:
        gain: Factor on the samples.
        low_shelf_hz: Corner of the high-pass, in Hz; 0 for none.
        pre_emphasis: `a` of `1 - a / z`; 0 for none.
        noise_shaping: Strength of the noise shaping, 0 for none to 1.
        predictor: Coefficients of the linear predictor, `1 + p1 / z + ...` without the 1; measured
            on the training audio.
    """

    gain: float = 1.0
    low_shelf_hz: float = 0.0
    pre_emphasis: float = 0.0
    noise_shaping: float = 0.0
    predictor: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check(1e-4 <= self.gain <= 1e4, "gain", "from 0.0001 to 10000", self.gain)
        corner = self.low_shelf_hz
        good = corner == 0 or 10 <= corner < math.inf
        check(good, "low_shelf_hz", "10 or more, or 0 for none", corner)
        check(0 <= self.pre_emphasis <= 0.99, "pre_emphasis", "from 0 to 0.99", self.pre_emphasis)
        check(0 <= self.noise_shaping <= 1, "noise_shaping", "from 0 to 1", self.noise_shaping)


MEL_PRESETS = {
    # ours, for the recipes: 10 ms frames of 40 or 50 ms
    "8khz": MelConfig(
        sample_rate=8000, n_fft=512, hop_length=80, win_length=320, n_mels=64, f_max=4000.0
    ),
    "16khz": MelConfig(
        sample_rate=16000, n_fft=1024, hop_length=160, win_length=800, n_mels=80, f_max=8000.0
    ),
    # NVIDIA/tacotron2 and NVIDIA/waveglow, hparams.py and config.json; the paper's are others, at
    # 24 kHz with a floor of 0.01
    "tacotron2": MelConfig(
        sample_rate=22050,
        n_fft=1024,
        hop_length=256,
        win_length=1024,
        f_max=8000.0,
        pad_mode="reflect",
    ),
    # NVIDIA/nv-wavenet, pytorch/config.json: Tacotron 2's at 16 kHz
    "nv_wavenet": MelConfig(
        sample_rate=16000,
        n_fft=800,
        hop_length=200,
        win_length=800,
        f_max=8000.0,
        pad_mode="reflect",
    ),
    # The next four take log10 and floor it at 1e-10; mean and deviation a band are the corpus's.
    # r9y9/wavenet_vocoder, master, egs/*/conf and audio.py, after a high-pass at 70 Hz; v0.1.1 has
    # frames that are not centred alike, and so no name here
    "r9y9": MelConfig(
        sample_rate=22050,
        n_fft=1024,
        hop_length=256,
        win_length=1024,
        f_min=125.0,
        f_max=7600.0,
        log_base="log10",
        log_floor=1e-10,
        pad_mode="reflect",
    ),
    # kan-bayashi/PytorchWaveNetVocoder, egs/ljspeech/sd-melspc, after a high-pass at 70 Hz; 5 ms
    "kan_bayashi": MelConfig(
        sample_rate=22050,
        n_fft=1024,
        hop_length=110,
        win_length=1024,
        f_max=11025.0,
        log_base="log10",
        log_floor=1e-10,
        pad_mode="reflect",
    ),
    # kan-bayashi/ParallelWaveGAN, egs/ljspeech/voc1, and ESPnet at 22.05 kHz
    "parallel_wavegan": MelConfig(
        sample_rate=22050,
        n_fft=1024,
        hop_length=256,
        win_length=1024,
        f_min=80.0,
        f_max=7600.0,
        log_base="log10",
        log_floor=1e-10,
        pad_mode="reflect",
    ),
    # kan-bayashi/ParallelWaveGAN, egs/jsut/voc1 and others at 24 kHz
    "parallel_wavegan_24khz": MelConfig(
        sample_rate=24000,
        n_fft=2048,
        hop_length=300,
        win_length=1200,
        f_min=80.0,
        f_max=7600.0,
        log_base="log10",
        log_floor=1e-10,
        pad_mode="reflect",
    ),
    # fatchord/WaveRNN, hparams.py and utils/dsp.py: decibels, -100 to 0 brought to 0 to 1
    "wavernn": MelConfig(
        sample_rate=22050,
        n_fft=2048,
        hop_length=275,
        win_length=1100,
        f_min=40.0,
        f_max=11025.0,
        log_base="decibel",
        pad_mode="reflect",
        mean=(-100.0,),
        std=(100.0,),
        clamp=True,
    ),
}


def mel_mismatch(wanted: MelConfig, found: MelConfig) -> str | None:
    """Return both conventions in words where they differ; `None` where they are one.

    Mean and deviation do not count: numbers are brought from one to the other without loss.
    """
    names = [field.name for field in dataclasses.fields(MelConfig)]
    different = [
        name
        for name in names
        if name not in ("mean", "std") and getattr(wanted, name) != getattr(found, name)
    ]
    if not different:
        return None
    lines = [
        f"{name}: {getattr(found, name)} there, {getattr(wanted, name)} wanted"
        for name in different
    ]
    return "another mel convention than the model's: " + "; ".join(lines)


def renormalize(wanted: MelConfig, found: MelConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return factor and summand a band that bring numbers of `found` to those of `wanted`."""
    bands = range(wanted.n_mels)

    def of(values: tuple[float, ...], band: int) -> float:
        return values[band if len(values) > 1 else 0]

    factors = tuple(of(found.std, band) / of(wanted.std, band) for band in bands)
    summands = tuple(
        (of(found.mean, band) - of(wanted.mean, band)) / of(wanted.std, band) for band in bands
    )
    return factors, summands
