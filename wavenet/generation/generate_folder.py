"""A folder of inputs spoken: what is there already is left, what cannot be is told at the end."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wavenet import checkpoint
from wavenet.generation.generate import (
    covered,
    draw_from,
    length_within,
    read_input,
    read_prompt,
    sampler_from,
    voice_from,
)
from wavenet.generation.inputs import MELS, Input, inputs_below, suffixes_taken
from wavenet.generation.options import GenerateCommand
from wavenet.generation.wav_stream import Work, speak
from wavenet.utils.errors import ConfigError, DataError, MachineError, printable
from wavenet.utils.progress import progress
from wavenet.utils.sharding import Shard

log = logging.getLogger("wavenet")
TOLD = 12  # failures


@dataclass
class Spoken:
    """What became of a folder's inputs.

    Attributes:
        rate: Of the recordings, in Hz.
        made: Files written.
        left: Files that were there already.
        failures: Why others could not be made, each with the name of its input.
        samples: Drawn.
        seconds: That took.
    """

    rate: int
    made: int = 0
    left: int = 0
    failures: list[str] = field(default_factory=list)
    samples: int = 0
    seconds: float = 0.0

    def text(self) -> str:
        """Return the outcome as lines."""
        speed = self.samples / max(self.seconds, 1e-9)
        return (
            f"{self.made} made, {self.left} left as they were, {len(self.failures)} failed\n"
            f"{speed:,.0f} samples a second, {speed / self.rate:.2f} times real time"
        )

    def check(self) -> None:
        """Raise a `DataError` that names the inputs that could not be spoken, if there are any."""
        lines = sorted(self.failures)
        if len(lines) > TOLD:
            lines[TOLD - 1 :] = [f"and {len(lines) - TOLD + 1} more"]
        if lines:
            count = len(self.failures)
            told = "\n".join(f"  {line}" for line in lines)
            raise DataError(f"{count} input{'s' * (count > 1)} could not be spoken:\n{told}")


def speak_folder(options: GenerateCommand, folder: Path) -> Spoken:
    """Speak, or go on from, every input below a folder that is this shard's and not yet done."""
    loaded = checkpoint.load(options.checkpoint)
    voice, draw = voice_from(options, loaded), draw_from(options, loaded)
    every = inputs_below(folder, Path(options.output), suffixes_taken(options, loaded.audio))
    arrays = [one for one in every if one.path.suffix.lower() == MELS[0]]
    if options.mel_preset is None and arrays:
        raise ConfigError(
            f"{printable(arrays[0].path)} does not say how it was made: name its convention, "
            "mel_preset=NAME, or model for the model's own"
        )
    mine = every if options.shard is None else Shard.from_text(options.shard).of(every)
    wanted = [one for one in mine if options.overwrite or not one.output.exists()]
    outcome = Spoken(loaded.audio.sample_rate, left=len(mine) - len(wanted))
    sampler = sampler_from(options, loaded)
    share = "" if options.shard is None else f" of shard {options.shard}"
    said = (len(wanted), len(mine), share, printable(folder), options.num_samples, sampler.name)
    log.info("speaking %d of the %d inputs%s below %s, %d at once: sampler %s", *said)
    if options.num_samples > 1:
        wanted = sorted(wanted, key=lambda one: -one.size)  # of one length, they end together
    with progress(len(wanted), unit="file", description="generating") as advance:
        for works in _batches(wanted, options, loaded, outcome):
            started = time.perf_counter()
            speak(works, sampler, loaded.audio, draw, lambda done: None, **voice)
            outcome.seconds += time.perf_counter() - started
            outcome.samples += sum(work.length for work in works)
            outcome.made += len(works)
            speed = outcome.samples / outcome.seconds
            advance(len(works), f"{speed:,.0f} samples/s, {len(outcome.failures)} failed")
    return outcome


def _batches(
    inputs: Sequence[Input],
    options: GenerateCommand,
    loaded: checkpoint.Checkpoint,
    outcome: Spoken,
) -> Iterator[list[Work]]:
    """Yield as many inputs at once as may be, read one by one; prompts of one length."""
    works: list[Work] = []
    for one in inputs:
        try:
            work = _work(one, options, loaded)
        except (DataError, MachineError) as error:
            name, reason = printable(one.path), str(error)
            outcome.failures.append(reason if reason.startswith(name) else f"{name}: {reason}")
            continue
        if works and (len(works) == options.num_samples or _before(work) != _before(works[0])):
            yield works
            works = []
        works.append(work)
    if works:
        yield works


def _before(work: Work) -> int:
    return 0 if work.prompt is None else len(work.prompt)


def _work(one: Input, options: GenerateCommand, loaded: checkpoint.Checkpoint) -> Work:
    audio, local, prompt, heard, there = loaded.audio, None, None, None, None
    if options.prompt is not None:
        prompt, heard = read_prompt(one.path, audio)
    else:
        convention = options.mel_preset if one.path.suffix.lower() == MELS[0] else None
        local = read_input(one.path, audio, convention)
        there = covered(one.path, local, audio)
    try:
        length = length_within(options.seconds, there, audio.sample_rate)
    except ConfigError as error:
        raise DataError(str(error)) from None
    return Work(one.output, one.seed(options.seed), length, local, prompt, heard)
