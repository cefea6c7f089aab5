"""`wavenet-generate`'s work: recordings that stream to disk as they are drawn."""

import contextlib
import importlib.util
import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.cli.console import progress_bar
from wavenet.cli.options import GenerateCommand
from wavenet.data.audio import WavWriter, read_header, read_samples
from wavenet.distributions import Draw
from wavenet.errors import ConfigError, DataError, printable
from wavenet.sampling import available_cores, make_sampler

log = logging.getLogger("wavenet")
CHUNK_SECONDS = 0.25


def write_recordings(options: GenerateCommand) -> tuple[list[Path], int, float]:
    """Generate and write; return the files, their sample rate and the seconds it took."""
    loaded = checkpoint.load(options.checkpoint)
    rate = loaded.audio.sample_rate
    length = round(options.seconds * rate)
    if length < 1:
        raise ConfigError(f"seconds={options.seconds:g} is less than one sample at {rate} Hz")
    paths = output_paths(Path(options.output), options.batch)
    taken = [path for path in paths if path.exists()]
    if taken and not options.overwrite:
        raise ConfigError(f"{printable(taken[0])} exists: choose another output, or overwrite=true")
    prompt = None if options.prompt is None else read_prompt(Path(options.prompt), rate)
    draw = Draw(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p)
    threads = options.threads or threads_that_pay(options)
    sampler = make_sampler(
        loaded.model, options.backend, threads=threads, precision=options.precision
    )
    said = (options.batch, options.seconds, rate, sampler.name, options.precision, threads)
    log.info("generating %d x %.2f s at %d Hz: sampler %s, %s, threads %d", *said)
    started = time.perf_counter()
    with contextlib.ExitStack() as files:
        writers = [files.enter_context(WavWriter(path, rate)) for path in paths]
        advance = files.enter_context(progress_bar(length * options.batch, "sample"))
        if prompt is not None:
            for writer in writers:
                writer.write(prompt.numpy())
        for chunk in sampler.stream(
            length,
            chunk=max(1, round(CHUNK_SECONDS * rate)),
            batch_size=options.batch,
            prompt=prompt,
            seed=options.seed,
            draw=draw,
        ):
            for writer, signal in zip(writers, chunk.cpu().float().numpy(), strict=True):
                writer.write(signal)
            advance(chunk.numel())
        seconds = time.perf_counter() - started
    return paths, rate, seconds


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


def read_prompt(path: Path, sample_rate: int) -> Tensor:
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
    prompt = torch.from_numpy(read_samples(path)[:, 0].copy())
    if not bool(prompt.isfinite().all()):
        raise DataError(f"{printable(path)} holds NaN or infinite samples")
    peak = float(prompt.abs().max())
    if peak > 1:
        raise DataError(f"{printable(path)} peaks at {peak:.3f}, past 1.0: lower its level first")
    return prompt
