"""Mel conventions of other projects by name, and what differs between two conventions."""

import dataclasses

from wavenet.config import MelConfig

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
