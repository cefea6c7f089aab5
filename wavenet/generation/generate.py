"""Generate audio files in chunks, from one input or from every input of a folder.

Several are generated at once, each bit for bit as if it were generated alone.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.checkpoint import Checkpoint
from wavenet.config import AudioConfig
from wavenet.data.audio_output import check_space, open_audio
from wavenet.distributions import SamplingConfig
from wavenet.features.filters import build_filter
from wavenet.features.frame_file import ARRAYS
from wavenet.features.mel_consistency import MelConsistency
from wavenet.generation.backend import build_sampler
from wavenet.generation.inputs import (
    InputFile,
    Prompt,
    input_suffixes,
    list_inputs,
    read_inputs,
)
from wavenet.generation.options import (
    GenerateCommand,
    check_not_source,
    mel_consistency,
    resolve_length,
)
from wavenet.sampling import Sampler
from wavenet.sampling.voicing import check_voicing
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import ConfigError, DataError, MachineError, listed, printable
from wavenet.utils.files import check_writable, remove_abandoned
from wavenet.utils.progress import progress
from wavenet.utils.sharding import Shard

log = logging.getLogger("wavenet")
CHUNK_SECONDS = 0.25
FULL_SCALE, MAX_LOUDEST = 0.99, 0.05  # a share of samples that recordings do not have


def sampling_config(options: GenerateCommand, loaded: Checkpoint) -> SamplingConfig:
    """Return temperature, that which suits the model if none is given, and truncation.

    Raises:
        ConfigError: The model does not support them.
    """
    temperature, suited = options.temperature, loaded.training.temperature
    if temperature is None:
        temperature = 1.0 if suited is None else suited
    sampling = SamplingConfig(
        temperature=temperature,
        voiced_temperature=options.voiced_temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        probability_floor=options.probability_floor,
    )
    loaded.model.distribution.check(sampling)
    check_voicing(loaded.model, sampling)
    return sampling


def speaker_and_guidance(options: GenerateCommand, audio: AudioConfig) -> dict[str, Any]:
    """Return speaker and guidance, as keywords of `Sampler.init_state`.

    Raises:
        ConfigError: The model has no such speaker.
    """
    conditioning: dict[str, Any] = {"guidance_scale": options.guidance_scale}
    if options.speaker is not None:
        names = audio.speaker_names
        if options.speaker not in names:
            known = nearest(options.speaker, names) or ": the model has no speakers"
            raise ConfigError(f"no speaker {printable(options.speaker)!r}{known}")
        conditioning["speaker"] = torch.tensor(names.index(options.speaker))
    elif options.guidance_scale != 1.0:
        raise ConfigError("guidance_scale needs speaker=NAME")
    return conditioning


@dataclass(frozen=True)
class WavJob:
    """An audio file to generate.

    Attributes:
        output: The file.
        seed: Of the noise.
        length: Samples to generate.
        frames: Local conditioning, prompt included, `(1, C, F)`.
        prompt: Recording that is continued.
        include_prompt: Whether the file starts with the prompt.
        replace: Whether an existing file, also one that appeared meanwhile, is replaced.
    """

    output: Path
    seed: int
    length: int
    frames: Tensor | None = None
    prompt: Prompt | None = None
    include_prompt: bool = False
    replace: bool = True

    @property
    def prompt_length(self) -> int:
        """Samples of the prompt; 0 without one."""
        return 0 if self.prompt is None else len(self.prompt.recording)

    @property
    def file_length(self) -> int:
        """Samples of the file."""
        return self.length + self.prompt_length * self.include_prompt


def generate_wavs(
    jobs: Sequence[WavJob],
    sampler: Sampler,
    audio: AudioConfig,
    sampling: SamplingConfig,
    advance: Callable[[int], None],
    consistency: MelConsistency | None = None,
    **conditioning: Any,
) -> None:
    """Generate audio files as one batch; each appears, complete, as soon as its last sample exists.

    Args:
        jobs: What to generate; their prompts have the same length.
        sampler: Generates the signals.
        audio: Meaning of the signals.
        sampling: Temperature and truncation.
        advance: Called with the number of new samples after each chunk.
        consistency: Gives each recording the mel spectrogram of its frames.
        **conditioning: Speaker and guidance, as `Sampler.init_state` takes them.
    """
    check_space({job.output: job.file_length for job in jobs}, audio.sample_rate)
    prompts = [job.prompt.filtered for job in jobs if job.prompt is not None]
    state = sampler.init_state(
        len(jobs),
        torch.stack(prompts) if prompts else None,
        [job.seed for job in jobs],
        local=pad_frames([job.frames for job in jobs if job.frames is not None]),
        **conditioning,
    )
    chunk = max(1, round(CHUNK_SECONDS * audio.sample_rate))
    with contextlib.ExitStack() as stack:
        files = [
            _WavFile(job, audio, consistency, stack.enter_context(contextlib.ExitStack()))
            for job in jobs
        ]
        while files:
            chunk_end = (state.num_generated // chunk + 1) * chunk
            # also in pieces of a chunk: one of a thousand files takes minutes
            piece_end = state.num_generated + sampler.chunk_length(len(files))
            stop = min(chunk_end, piece_end, *(file.job.length for file in files))
            signal = sampler.generate_next(state, stop - state.num_generated, sampling)
            for file, samples in zip(files, signal.cpu().float(), strict=True):
                file.write(samples, chunk_ends=stop == chunk_end)
            advance(signal.numel())
            unfinished = [row for row, file in enumerate(files) if file.job.length > stop]
            if len(unfinished) < len(files):
                files = [files[row] for row in unfinished]
                state = state.select(unfinished) if files else state


class _WavFile:
    """A file that is being generated; closes `stack` after its last sample."""

    def __init__(
        self,
        job: WavJob,
        audio: AudioConfig,
        consistency: MelConsistency | None,
        stack: contextlib.ExitStack,
    ) -> None:
        self.job = job
        self.stack = stack
        self.writer = stack.enter_context(
            open_audio(job.output, audio.sample_rate, job.file_length, replace=job.replace)
        )
        self.invert_filter = build_filter(audio).inverse()
        self.consistency = consistency
        prompt = None
        if job.prompt is not None:
            prompt = job.prompt.recording[None]
            if job.include_prompt:
                self.writer.write(job.prompt.recording.numpy())
            self.invert_filter(job.prompt.filtered[None])
        if consistency is not None:
            assert job.frames is not None
            mel = job.frames[:, : consistency.config.n_mels]
            self.mel_state = consistency.new_state(mel, prompt=prompt)
        self.chunk: list[Tensor] = []
        self.num_generated = self.num_loudest = 0

    def write(self, samples: Tensor, *, chunk_ends: bool) -> None:
        """Append samples.

        They are filtered and written in complete chunks, even if other files of the batch end
        within a chunk: rounding of the filter depends on where the chunks are cut.
        """
        self.chunk.append(samples)
        self.num_generated += len(samples)
        self.num_loudest += int((samples.abs() > FULL_SCALE).sum())
        complete = self.num_generated == self.job.length
        if chunk_ends or complete:
            signal = self.invert_filter(torch.cat(self.chunk)[None])
            if self.consistency is not None:
                signal = self.consistency.push(signal, self.mel_state)
            self.writer.write(signal[0].numpy())
            self.chunk = []
        if complete:
            if self.consistency is not None:
                self.writer.write(self.consistency.flush(self.mel_state)[0].float().numpy())
            self.stack.close()
            self._warn_of_full_scale()

    def _warn_of_full_scale(self) -> None:
        share = self.num_loudest / max(self.num_generated, 1)
        if share > MAX_LOUDEST:
            log.warning(
                "%s: the model drew %.0f%% of the samples at full scale, as for sounds that it was "
                "not trained on, such as pure tones: try a quieter input, or another model",
                printable(self.job.output),
                100 * share,
            )


def pad_frames(frames: Sequence[Tensor]) -> Tensor | None:
    """Return frames, `(1, C, F)` each, as one batch; shorter ones repeat their last frame.

    A model sees the same beyond the last frame of a signal that is generated alone.
    """
    if not frames:
        return None
    longest = max(part.shape[-1] for part in frames)
    return torch.cat([F.pad(part, (0, longest - part.shape[-1]), "replicate") for part in frames])


def speed_text(samples: int, seconds: float, sample_rate: int) -> str:
    """Return the speed of a generation, and its real-time factor: computing time per time."""
    rate = samples / max(seconds, 1e-9)
    return f"{rate:,.0f} samples/s, real-time factor {sample_rate / max(rate, 1e-9):.3f}"


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
        counts = f"{self.written} written, {self.skipped} skipped, {len(self.failures)} failed"
        return f"{counts}\n{speed_text(self.samples, self.seconds, self.sample_rate)}"

    def raise_failures(self) -> None:
        """Raise a `DataError` that names the failed inputs, if there are any."""
        count = len(self.failures)
        if count:
            inputs = f"{count} input{'s' * (count > 1)}"
            raise DataError(f"{inputs} failed:{listed(sorted(self.failures))}")


def generate_folder(options: GenerateCommand, folder: Path, loaded: Checkpoint) -> FolderResult:
    """Generate from every input of a folder, or of one shard of it, whose output is missing.

    Failures are collected, existing outputs are skipped.
    """
    audio = loaded.audio
    conditioning = speaker_and_guidance(options, audio)
    conditioning["consistency"] = mel_consistency(options, audio)
    sampling = sampling_config(options, loaded)
    suffixes = input_suffixes(audio, prompts=options.prompt is not None)
    inputs = list_inputs(folder, Path(options.output), suffixes)
    arrays = [one for one in inputs if one.path.suffix.lower() == ARRAYS[0]]
    if options.mel_preset is None and arrays and audio.mel is not None:
        raise ConfigError(
            f"{printable(arrays[0].path)} has no mel settings: add mel_preset=NAME, or "
            "mel_preset=model for those of the model"
        )
    mine = inputs if options.shard is None else Shard.from_text(options.shard).of(inputs)
    missing = [one for one in mine if options.overwrite or not one.output.exists()]
    for one in missing[:1]:
        check_writable(one.output)
    name = "input" if options.prompt is None else "prompt"
    sources = {_file_id(one.path): one.path for one in inputs}
    for one in missing:
        if one.output.exists() and (source := sources.get(_file_id(one.output))) is not None:
            check_not_source(one.output, source, name)
    result = FolderResult(audio.sample_rate, skipped=len(mine) - len(missing))
    remove_abandoned(one.output for one in missing)
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


def _file_id(path: Path) -> tuple[int, int]:
    """Return what is equal for two names of one file."""
    status = path.stat()
    return status.st_dev, status.st_ino


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
        full = len(jobs) == options.batch_size
        if full or (jobs and job.prompt_length != jobs[0].prompt_length):
            yield jobs
            jobs = []
        jobs.append(job)
    if jobs:
        yield jobs


def _read_job(one: InputFile, options: GenerateCommand, audio: AudioConfig) -> WavJob:
    is_prompt = options.prompt is not None
    prompt, frames, available = read_inputs(
        None if is_prompt else one.path, one.path if is_prompt else None, audio, options.mel_preset
    )
    try:
        length = resolve_length(options.seconds, available, audio.sample_rate)
    except ConfigError as error:  # of this input only, others may be longer
        raise DataError(str(error)) from None
    return WavJob(
        one.output, one.seed(options.seed), length, frames, prompt, options.include_prompt
    )
