"""`wavenet-generate`'s work: recordings that stream to disk as they are drawn."""

import contextlib
import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.cli.console import progress_bar
from wavenet.cli.options import GenerateCommand
from wavenet.config import AudioConfig
from wavenet.data.audio import WavWriter, read_header, read_samples
from wavenet.data.features import Features
from wavenet.data.mel_file import read_mel
from wavenet.data.notes import read_notes
from wavenet.data.shaping import check_peak, shaping_of
from wavenet.distributions import Draw
from wavenet.errors import ConfigError, DataError, printable
from wavenet.plain import nearest
from wavenet.sampling import available_cores, make_sampler

log = logging.getLogger("wavenet")
CHUNK_SECONDS = 0.25
FRAMES = (".csv", ".npy", ".safetensors")  # inputs that are no recordings
SECONDS = 3.0  # of a recording, where nothing says how long it is


def write_recordings(options: GenerateCommand) -> tuple[list[Path], int, int, float]:
    """Generate and write; return the files, their samples, their rate and the seconds it took."""
    loaded = checkpoint.load(options.checkpoint)
    rate = loaded.audio.sample_rate
    paths = output_paths(Path(options.output), options.batch)
    taken = [path for path in paths if path.exists()]
    if taken and not options.overwrite:
        raise ConfigError(f"{printable(taken[0])} exists: choose another output, or overwrite=true")
    prompt = None if options.prompt is None else read_recording(Path(options.prompt), rate)
    how = conditions_from(options, loaded)
    length = _length(options, loaded, how, 0 if prompt is None else len(prompt))
    draw = Draw(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p)
    loaded.model.distribution.check(draw)
    threads = options.threads or threads_that_pay(options)
    sampler = make_sampler(
        loaded.model, options.backend, threads=threads, precision=options.precision
    )
    seconds = length / rate
    said = (options.batch, seconds, rate, sampler.name, options.precision, threads)
    log.info("generating %d x %.2f s at %d Hz: sampler %s, %s, threads %d", *said)
    started = time.perf_counter()
    with contextlib.ExitStack() as files:
        writers = [files.enter_context(WavWriter(path, rate)) for path in paths]
        advance = files.enter_context(progress_bar(length * options.batch, "sample"))
        shaping = shaping_of(loaded.audio)
        undone = shaping.undone()
        if prompt is not None:
            for writer in writers:
                writer.write(prompt.numpy())
            prompt = shaping.apply(prompt)
            check_peak(prompt, options.prompt or "prompt")
            undone(prompt.expand(options.batch, -1))
        for chunk in sampler.stream(
            length,
            chunk=max(1, round(CHUNK_SECONDS * rate)),
            draw=draw,
            batch_size=options.batch,
            prompt=prompt,
            seed=options.seed,
            **how,
        ):
            sound = undone(chunk.cpu().float()).numpy()
            for writer, recording in zip(writers, sound, strict=True):
                writer.write(recording)
            advance(chunk.numel())
        took = time.perf_counter() - started
    return paths, length * len(paths), rate, took


def conditions_from(options: GenerateCommand, loaded: checkpoint.Checkpoint) -> dict[str, Any]:
    """Return what conditions the recordings, as a sampler's `start` takes it.

    Raises:
        ConfigError: The model wants an input or knows no speakers, or the other way round.
    """
    how: dict[str, Any] = {"guidance": options.guidance}
    names = loaded.audio.speakers
    if options.speaker is not None:
        if options.speaker not in names:
            known = nearest(options.speaker, names) or ": the model knows none"
            raise ConfigError(f"no speaker {printable(options.speaker)!r}{known}")
        how["speaker"] = torch.tensor(names.index(options.speaker))
    if options.guidance != 1.0 and options.speaker is None:
        raise ConfigError("guidance goes towards a speaker: say speaker=NAME, or leave it out")
    wanted = " and ".join(loaded.audio.features)
    if wanted and options.input is None:
        raise ConfigError(f"the model speaks from {wanted}: say input=FILE")
    if not wanted and options.input is not None:
        raise ConfigError("the model speaks by itself: leave input out, or say prompt=FILE")
    array = options.input is not None and options.input.lower().endswith(".npy")
    if options.mel_convention is not None and not array:
        raise ConfigError("mel_convention is for an input=FILE.npy alone: leave it out")
    if options.input is not None:
        how["local"] = read_input(Path(options.input), loaded.audio, options.mel_convention)
    return how


def read_input(path: Path, audio: AudioConfig, mel_convention: str | None) -> Tensor:
    """Return the frames that a file says, `(1, C, F)`."""
    suffix = path.suffix.lower()
    if suffix in (".npy", ".safetensors"):
        if audio.mel is None or len(audio.features) > 1:
            raise ConfigError(
                f"the model speaks from {' and '.join(audio.features)}, not from a mel alone: give "
                "it a recording"
            )
        return read_mel(path, audio.mel, mel_convention)[None]
    notes = read_notes(path) if suffix == ".csv" else None
    waveform = None if notes else read_recording(path, audio.sample_rate).numpy()
    beside = path.with_suffix(".csv")
    if notes is None and audio.notes is not None and beside.exists():
        notes = read_notes(beside)
    return Features(audio).of_signal(waveform, notes)


def _length(
    options: GenerateCommand, loaded: checkpoint.Checkpoint, how: dict[str, Any], before: int
) -> int:
    """Return the samples of each recording, without its prompt's `before`."""
    rate, hop = loaded.audio.sample_rate, loaded.audio.hop_size
    length = None if options.seconds is None else round(options.seconds * rate)
    if hop is not None:
        covered = how["local"].shape[-1] * hop
        if options.input is not None and Path(options.input).suffix.lower() not in FRAMES:
            covered = min(covered, read_header(Path(options.input)).frames)
        covered -= before
        length = covered if length is None else length
        if length > covered:
            raise ConfigError(
                f"the input, which covers the prompt too, has {covered / rate:.2f} s after it, "
                f"and seconds={options.seconds:g} are more: leave seconds out, or give a longer one"
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
    return min(available_cores(), options.batch)


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
