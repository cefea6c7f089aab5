"""`wavenet-generate`'s work on one input: what is asked for is read and checked, then spoken."""

import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.config import AudioConfig
from wavenet.data.audio import read_header, read_samples
from wavenet.distributions import SamplingConfig
from wavenet.features.filters import check_peak, shaping_of
from wavenet.features.frames import Features
from wavenet.features.mel_file import read_mel
from wavenet.features.score import read_notes
from wavenet.generation.options import GenerateCommand
from wavenet.generation.wav_stream import Work, speak
from wavenet.sampling import Sampler, available_cores, make_sampler
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.progress import progress

log = logging.getLogger("wavenet")
FRAMES = (".csv", ".npy", ".safetensors")  # inputs that are no recordings
SECONDS = 3.0  # of a recording, where nothing says how long it is


def write_recordings(options: GenerateCommand) -> tuple[list[Path], int, int, float]:
    """Generate and write; return the files, their samples, their rate and the seconds it took."""
    loaded = checkpoint.load(options.checkpoint)
    audio = loaded.audio
    rate = audio.sample_rate
    paths = output_paths(Path(options.output), options.num_samples)
    taken = [path for path in paths if path.exists()]
    if taken and not options.overwrite:
        raise ConfigError(f"{printable(taken[0])} exists: choose another output, or overwrite=true")
    prompt, heard, local, there = None, None, None, None
    if options.prompt is not None:
        prompt, heard = read_prompt(Path(options.prompt), audio)
    voice, draw = voice_from(options, loaded), draw_from(options, loaded)
    before = 0 if prompt is None else len(prompt)
    if options.input is not None:
        local = read_input(Path(options.input), audio, options.mel_preset)
        there = covered(Path(options.input), local, audio) - before
    length = length_within(options.seconds, there, rate)
    sampler = sampler_from(options, loaded)
    works = [
        Work(path, options.seed + item, length, local, prompt, heard)
        for item, path in enumerate(paths)
    ]
    threads = options.num_threads or threads_that_pay(options)
    said = (len(works), length / rate, rate, sampler.name, options.weight_dtype, threads)
    log.info("generating %d x %.2f s at %d Hz: sampler %s, %s, threads %d", *said)
    started = time.perf_counter()
    with progress(length * len(works), unit="sample", description="generating") as advance:
        speak(works, sampler, audio, draw, advance, **voice)
    return paths, length * len(works), rate, time.perf_counter() - started


def voice_from(options: GenerateCommand, loaded: checkpoint.Checkpoint) -> dict[str, Any]:
    """Return speaker and guidance, as a sampler's `start` takes them.

    Raises:
        ConfigError: The model wants an input or knows no speakers, or the other way round.
    """
    how: dict[str, Any] = {"guidance_scale": options.guidance_scale}
    names = loaded.audio.speaker_names
    if options.speaker is not None:
        if options.speaker not in names:
            known = nearest(options.speaker, names) or ": the model knows none"
            raise ConfigError(f"no speaker {printable(options.speaker)!r}{known}")
        how["speaker"] = torch.tensor(names.index(options.speaker))
    if options.guidance_scale != 1.0 and options.speaker is None:
        raise ConfigError("guidance goes towards a speaker: say speaker=NAME, or leave it out")
    wanted = " and ".join(loaded.audio.features)
    if wanted and options.input is None:
        raise ConfigError(f"the model speaks from {wanted}: say input=FILE")
    if not wanted and options.input is not None:
        raise ConfigError("the model speaks by itself: leave input out, or say prompt=FILE")
    source = Path(options.input or "")
    array = source.suffix.lower() == ".npy" or (options.input is not None and source.is_dir())
    if options.mel_preset is not None and not array:
        raise ConfigError("mel_preset is for an input=FILE.npy alone: leave it out")
    return how


def draw_from(options: GenerateCommand, loaded: checkpoint.Checkpoint) -> SamplingConfig:
    """Return how freely to draw, once the model's distribution knows such a draw."""
    draw = SamplingConfig(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p)
    loaded.model.distribution.check(draw)
    return draw


def sampler_from(options: GenerateCommand, loaded: checkpoint.Checkpoint) -> Sampler:
    """Return the sampler that is asked for."""
    threads = options.num_threads or threads_that_pay(options)
    return make_sampler(
        loaded.model, options.backend, num_threads=threads, weight_dtype=options.weight_dtype
    )


def read_input(path: Path, audio: AudioConfig, mel_preset: str | None) -> Tensor:
    """Return the frames that a file says, `(1, C, F)`."""
    suffix = path.suffix.lower()
    if suffix in (".npy", ".safetensors"):
        if audio.mel is None or len(audio.features) > 1:
            raise ConfigError(
                f"the model speaks from {' and '.join(audio.features)}, not from a mel alone: give "
                "it a recording"
            )
        return read_mel(path, audio.mel, mel_preset)[None]
    notes = read_notes(path) if suffix == ".csv" else None
    waveform = None if notes else read_recording(path, audio.sample_rate).numpy()
    beside = path.with_suffix(".csv")
    if notes is None and audio.score is not None and beside.exists():
        notes = read_notes(beside)
    return Features(audio).of_signal(waveform, notes)


def read_prompt(path: Path, audio: AudioConfig) -> tuple[Tensor, Tensor]:
    """Return a recording to go on from, and what the model hears of it, `(T,)` each."""
    prompt = read_recording(path, audio.sample_rate)
    heard = shaping_of(audio).apply(prompt)
    check_peak(heard, str(path))
    return prompt, heard


def covered(path: Path, local: Tensor, audio: AudioConfig) -> int:
    """Return how many samples an input's frames cover; no more than a recording has."""
    samples = local.shape[-1] * (audio.hop_length or 1)
    if path.suffix.lower() not in FRAMES:
        samples = min(samples, read_header(path).frames)
    return samples


def length_within(seconds: float | None, there: int | None, rate: int) -> int:
    """Return the samples to draw.

    Args:
        seconds: As asked for; absent for all that the input covers.
        there: Samples that the input covers after a prompt; absent where there is no input.
        rate: Samples a second.
    """
    length = None if seconds is None else round(seconds * rate)
    if there is not None:
        length = there if length is None else length
        if length > there:
            raise ConfigError(
                f"the input, which covers the prompt too, has {there / rate:.2f} s after it, "
                f"and seconds={seconds:g} are more: leave seconds out, or give a longer one"
            )
    length = round(SECONDS * rate) if length is None else length
    if length < 1:
        raise ConfigError(f"{length / rate:g} s is less than one sample at {rate} Hz: say more")
    return length


def threads_that_pay(options: GenerateCommand) -> int:
    """Return how many cores to use where none are asked for: one a recording.

    A team on one recording waits for its members at every sample: it pays on an idle machine only.
    """
    if options.backend == "reference" or not importlib.util.find_spec("numba"):
        return 1
    return min(available_cores(), options.num_samples)


def output_paths(output: Path, batch: int) -> list[Path]:
    """Return the file of each item: `speech.wav`, or `speech-0.wav` and so on for a batch."""
    if output.suffix.lower() != ".wav":
        raise ConfigError(f"output must be a .wav file, got {printable(output)}")
    if batch == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{item}{output.suffix}") for item in range(batch)]


def read_recording(path: Path, sample_rate: int) -> Tensor:
    """Return a mono recording, `(T,)`, at the model's rate.

    Raises:
        DataError: It has another rate or more channels, or is no whole recording.
    """
    header = read_header(path)
    if header.sample_rate != sample_rate:
        raise DataError(
            f"{printable(path)} is at {header.sample_rate} Hz, the model at {sample_rate} Hz: "
            "resample it first, with sox or wavenet-prepare data.resample=true"
        )
    if header.channels != 1:
        raise DataError(
            f"{printable(path)} has {header.channels} channels, the model one: mix it down first"
        )
    samples = torch.from_numpy(read_samples(path)[:, 0].copy())
    if not bool(samples.isfinite().all()):
        raise DataError(f"{printable(path)} holds NaN or infinite samples")
    peak = float(samples.abs().max())
    if peak > 1:
        raise DataError(f"{printable(path)} peaks at {peak:.3f}, past 1.0: lower its level first")
    return samples
