"""Generate audio for every input of a folder; skip existing outputs, report failures at the end."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wavenet.checkpoint import Checkpoint
from wavenet.config import AudioConfig
from wavenet.generation.generate import (
    build_sampler,
    resolve_length,
    sampling_config,
    speaker_and_guidance,
)
from wavenet.generation.inputs import (
    MELS,
    InputFile,
    input_suffixes,
    list_inputs,
    read_frames,
    read_prompt,
    samples_covered,
)
from wavenet.generation.options import GenerateCommand
from wavenet.generation.wav_stream import WavJob, generate_wavs
from wavenet.utils.errors import ConfigError, DataError, MachineError, printable
from wavenet.utils.progress import progress
from wavenet.utils.sharding import Shard

log = logging.getLogger("wavenet")
MAX_FAILURES_SHOWN = 12


@dataclass
class FolderResult:
    """What `generate_folder` did.

    Attributes:
        sample_rate: Of the recordings, in Hz.
        written: Number of files written.
        skipped: Number of files that existed.
        failures: The reason of each failure, with the name of the input.
        samples: Samples generated.
        seconds: Time of their generation.
    """

    sample_rate: int
    written: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    samples: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        """Return the numbers as lines."""
        rate = self.samples / max(self.seconds, 1e-9)
        return (
            f"{self.written} written, {self.skipped} skipped, {len(self.failures)} failed\n"
            f"{rate:,.0f} samples/s, {rate / self.sample_rate:.2f} times real time"
        )

    def raise_failures(self) -> None:
        """Raise a `DataError` that names the failed inputs, if there are any."""
        lines = sorted(self.failures)
        if len(lines) > MAX_FAILURES_SHOWN:
            lines[MAX_FAILURES_SHOWN - 1 :] = [f"and {len(lines) - MAX_FAILURES_SHOWN + 1} more"]
        if lines:
            count = len(self.failures)
            text = "".join(f"\n  {line}" for line in lines)
            raise DataError(f"{count} input{'s' * (count > 1)} failed:{text}")


def generate_folder(options: GenerateCommand, folder: Path, loaded: Checkpoint) -> FolderResult:
    """Generate from every input of a folder, or of one shard of it, whose output is missing."""
    audio = loaded.audio
    conditioning = speaker_and_guidance(options, audio)
    sampling = sampling_config(options, loaded.model)
    suffixes = input_suffixes(audio, prompts=options.prompt is not None)
    inputs = list_inputs(folder, Path(options.output), suffixes)
    arrays = [one for one in inputs if one.path.suffix.lower() == MELS[0]]
    if options.mel_preset is None and arrays:
        raise ConfigError(
            f"{printable(arrays[0].path)} has no mel settings: add mel_preset=NAME, or "
            "mel_preset=model for those of the model"
        )
    mine = inputs if options.shard is None else Shard.from_text(options.shard).of(inputs)
    missing = [one for one in mine if options.overwrite or not one.output.exists()]
    result = FolderResult(audio.sample_rate, skipped=len(mine) - len(missing))
    sampler = build_sampler(options, loaded.model)
    shard = "" if options.shard is None else f" of shard {options.shard}"
    log.info(
        "generating from %d of the %d inputs%s in %s, %d at once: sampler %s",
        *(len(missing), len(mine), shard, printable(folder), options.batch_size, sampler.name),
    )
    if options.batch_size > 1:
        missing = sorted(missing, key=lambda one: -one.size)  # similar lengths end together
    with progress(len(missing), unit="file", description="generating") as advance:
        for jobs in _batches(missing, options, audio, result):
            started = time.perf_counter()
            generate_wavs(jobs, sampler, audio, sampling, lambda count: None, **conditioning)
            result.seconds += time.perf_counter() - started
            result.samples += sum(job.length for job in jobs)
            result.written += len(jobs)
            rate = result.samples / result.seconds
            advance(len(jobs), f"{rate:,.0f} samples/s, {len(result.failures)} failed")
    return result


def _batches(
    inputs: Sequence[InputFile],
    options: GenerateCommand,
    audio: AudioConfig,
    result: FolderResult,
) -> Iterator[list[WavJob]]:
    """Yield up to `batch_size` jobs whose prompts have the same length; collect failures."""
    jobs: list[WavJob] = []
    for one in inputs:
        try:
            job = _read_job(one, options, audio)
        except (DataError, MachineError) as error:
            name, reason = printable(one.path), str(error)
            result.failures.append(reason if reason.startswith(name) else f"{name}: {reason}")
            continue
        if len(jobs) == options.batch_size or (
            jobs and _prompt_length(job) != _prompt_length(jobs[0])
        ):
            yield jobs
            jobs = []
        jobs.append(job)
    if jobs:
        yield jobs


def _prompt_length(job: WavJob) -> int:
    return 0 if job.prompt is None else len(job.prompt.recording)


def _read_job(one: InputFile, options: GenerateCommand, audio: AudioConfig) -> WavJob:
    prompt, frames, available = None, None, None
    if options.prompt is not None:
        prompt = read_prompt(one.path, audio)
    else:
        is_array = one.path.suffix.lower() == MELS[0]
        frames = read_frames(one.path, audio, options.mel_preset if is_array else None)
        available = samples_covered(one.path, frames, audio)
    try:
        length = resolve_length(options.seconds, available, audio.sample_rate)
    except ConfigError as error:
        raise DataError(str(error)) from None
    return WavJob(one.output, one.seed(options.seed), length, frames, prompt)
