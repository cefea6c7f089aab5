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

    Frame `f` is centred on sample `f * hop_size`; it conditions samples from there to the next
    frame's. With `m` the mel spectrum, it holds `(log(max(m, floor)) - mean) / std`.

    Attributes:
        sample_rate: Of the waveform, in Hz.
        fft_size: Samples of the Fourier transform.
        hop_size: Samples from one frame to the next.
        window_size: Samples of the Hann window.
        bins: Mel bands.
        fmin: Lower end of the lowest band, in Hz.
        fmax: Upper end of the highest band, in Hz.
        power: Of the spectrum that is summed: 1 for magnitude, 2 for energy.
        mel_scale: Formula of the mel scale: `slaney` (librosa's default) or `htk`.
        norm: `slaney` divides each band by its width; `none` has bands with peaks of 1.
        log: `natural`, `log10`, or `decibel` (20 log10 of a magnitude, 10 log10 of an energy).
        floor: Smallest value before the logarithm.
        padding: What lies before the first and after the last sample: `constant` (silence) or
            `reflect`.
        mean: Subtracted from each band; one number for all, or one a band.
        std: Then divided by; one number for all, or one a band.
        clip: Limit the result to [0, 1].
    """

    sample_rate: int
    fft_size: int
    hop_size: int
    window_size: int
    bins: int = 80
    fmin: float = 0.0
    fmax: float
    power: Literal[1, 2] = 1
    mel_scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney", "none"] = "slaney"
    log: Literal["natural", "log10", "decibel"] = "natural"
    floor: float = 1e-5
    padding: Literal["constant", "reflect"] = "constant"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    clip: bool = False

    def __post_init__(self) -> None:
        for name in ("sample_rate", "fft_size", "hop_size", "window_size", "bins"):
            check(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        size = self.window_size
        check(size <= self.fft_size, "window_size", f"{self.fft_size} at most, fft_size", size)
        limits = f"0 <= fmin < fmax <= {self.sample_rate / 2:g}, half the rate"
        good = 0 <= self.fmin < self.fmax <= self.sample_rate / 2
        check(good, "fmin and fmax", limits, (self.fmin, self.fmax))
        check(self.floor > 0, "floor", "positive", self.floor)
        for name in ("mean", "std"):
            length = len(getattr(self, name))
            check(length in (1, self.bins), name, f"1 or {self.bins} numbers", length)
        check(min(self.std) > 0, "std", "positive", min(self.std))

    @property
    def channels(self) -> int:
        """Numbers in a frame."""
        return self.bins


@dataclass(frozen=True, kw_only=True)
class PitchConfig:
    """How F0 and voicing are found (pYIN, Mauch and Dixon 2014): three channels a frame.

    The channels are log2(F0 / 100 Hz), carried on where the voice is silent; 1 where it is
    voiced, 0 elsewhere; and the probability of voicing.

    Attributes:
        sample_rate: Of the waveform, in Hz.
        hop_size: Samples from one frame to the next.
        fmin: Lowest F0, in Hz.
        fmax: Highest F0, in Hz.
    """

    sample_rate: int
    hop_size: int
    fmin: float = 60.0
    fmax: float = 500.0

    def __post_init__(self) -> None:
        check(self.hop_size >= 1, "hop_size", "1 or more", self.hop_size)
        limits = f"0 < fmin < fmax <= {self.sample_rate / 2:g}, half the rate"
        good = 0 < self.fmin < self.fmax <= self.sample_rate / 2
        check(good, "fmin and fmax", limits, (self.fmin, self.fmax))
        octave = self.fmax >= 2 * self.fmin
        check(octave, "fmax", f"{2 * self.fmin:g} or more, an octave above fmin", self.fmax)

    @property
    def channels(self) -> int:
        """Numbers in a frame."""
        return 3


@dataclass(frozen=True, kw_only=True)
class NotesConfig:
    """How a score becomes a roll: two channels a pitch, where it starts and where it sounds.

    Attributes:
        sample_rate: Of the waveform, in Hz.
        hop_size: Samples from one frame to the next.
        lowest: MIDI number of the lowest pitch.
        highest: MIDI number of the highest pitch.
    """

    sample_rate: int
    hop_size: int
    lowest: int = 21
    highest: int = 108

    def __post_init__(self) -> None:
        check(self.hop_size >= 1, "hop_size", "1 or more", self.hop_size)
        pitches = (self.lowest, self.highest)
        check(0 <= self.lowest <= self.highest <= 127, "pitches", "from 0 to 127", pitches)

    @property
    def pitches(self) -> int:
        """How many pitches the roll has; its channels are twice as many."""
        return self.highest - self.lowest + 1

    @property
    def channels(self) -> int:
        """Numbers in a frame."""
        return 2 * self.pitches


@dataclass(frozen=True, kw_only=True)
class ShapingConfig:
    """The steps between a recording and the signal that a model learns.

    Attributes:
        gain: Factor on the samples.
        high_pass: Corner of the high-pass, in Hz; 0 for none.
        pre_emphasis: `a` of `1 - a / z`; 0 for none.
        noise_shaping: Strength of the noise shaping, 0 for none to 1.
        predictor: Coefficients of the linear predictor, `1 + p1 / z + ...` without the 1; measured
            on the training audio.
    """

    gain: float = 1.0
    high_pass: float = 0.0
    pre_emphasis: float = 0.0
    noise_shaping: float = 0.0
    predictor: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check(1e-4 <= self.gain <= 1e4, "gain", "from 0.0001 to 10000", self.gain)
        corner = self.high_pass
        good = corner == 0 or 10 <= corner < math.inf
        check(good, "high_pass", "10 or more, or 0 for none", corner)
        check(0 <= self.pre_emphasis <= 0.99, "pre_emphasis", "from 0 to 0.99", self.pre_emphasis)
        check(0 <= self.noise_shaping <= 1, "noise_shaping", "from 0 to 1", self.noise_shaping)


CONVENTIONS = {
    # ours, for the recipes: 10 ms frames of 40 or 50 ms
    "8khz": MelConfig(
        sample_rate=8000, fft_size=512, hop_size=80, window_size=320, bins=64, fmax=4000.0
    ),
    "16khz": MelConfig(
        sample_rate=16000, fft_size=1024, hop_size=160, window_size=800, bins=80, fmax=8000.0
    ),
    # NVIDIA/tacotron2 and NVIDIA/waveglow, hparams.py and config.json; the paper's are others, at
    # 24 kHz with a floor of 0.01
    "tacotron2": MelConfig(
        sample_rate=22050,
        fft_size=1024,
        hop_size=256,
        window_size=1024,
        fmax=8000.0,
        padding="reflect",
    ),
    # NVIDIA/nv-wavenet, pytorch/config.json: Tacotron 2's at 16 kHz
    "nv_wavenet": MelConfig(
        sample_rate=16000,
        fft_size=800,
        hop_size=200,
        window_size=800,
        fmax=8000.0,
        padding="reflect",
    ),
    # The next four take log10 and floor it at 1e-10; mean and deviation a band are the corpus's.
    # r9y9/wavenet_vocoder, master, egs/*/conf and audio.py, after a high-pass at 70 Hz; v0.1.1 has
    # frames that are not centred alike, and so no name here
    "r9y9": MelConfig(
        sample_rate=22050,
        fft_size=1024,
        hop_size=256,
        window_size=1024,
        fmin=125.0,
        fmax=7600.0,
        log="log10",
        floor=1e-10,
        padding="reflect",
    ),
    # kan-bayashi/PytorchWaveNetVocoder, egs/ljspeech/sd-melspc, after a high-pass at 70 Hz; 5 ms
    "kan_bayashi": MelConfig(
        sample_rate=22050,
        fft_size=1024,
        hop_size=110,
        window_size=1024,
        fmax=11025.0,
        log="log10",
        floor=1e-10,
        padding="reflect",
    ),
    # kan-bayashi/ParallelWaveGAN, egs/ljspeech/voc1, and ESPnet at 22.05 kHz
    "parallel_wavegan": MelConfig(
        sample_rate=22050,
        fft_size=1024,
        hop_size=256,
        window_size=1024,
        fmin=80.0,
        fmax=7600.0,
        log="log10",
        floor=1e-10,
        padding="reflect",
    ),
    # kan-bayashi/ParallelWaveGAN, egs/jsut/voc1 and others at 24 kHz
    "parallel_wavegan_24khz": MelConfig(
        sample_rate=24000,
        fft_size=2048,
        hop_size=300,
        window_size=1200,
        fmin=80.0,
        fmax=7600.0,
        log="log10",
        floor=1e-10,
        padding="reflect",
    ),
    # fatchord/WaveRNN, hparams.py and utils/dsp.py: decibels, -100 to 0 brought to 0 to 1
    "wavernn": MelConfig(
        sample_rate=22050,
        fft_size=2048,
        hop_size=275,
        window_size=1100,
        fmin=40.0,
        fmax=11025.0,
        log="decibel",
        padding="reflect",
        mean=(-100.0,),
        std=(100.0,),
        clip=True,
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


def renormalised(
    wanted: MelConfig, found: MelConfig
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return factor and summand a band that bring numbers of `found` to those of `wanted`."""
    bands = range(wanted.bins)

    def of(values: tuple[float, ...], band: int) -> float:
        return values[band if len(values) > 1 else 0]

    factors = tuple(of(found.std, band) / of(wanted.std, band) for band in bands)
    summands = tuple(
        (of(found.mean, band) - of(wanted.mean, band)) / of(wanted.std, band) for band in bands
    )
    return factors, summands
