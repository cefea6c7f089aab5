"""Checks one recording, and names the options that would repair it.

Every sample is decoded, block by block, so that memory stays bounded whatever the header claims.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.data.audio import MAX_OVERSHOOT, AudioHeader, read_blocks, read_header
from wavenet.data.container_headers import OPEN_END, TruncatedAudio, has_open_end
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.frame_files import frames_problem
from wavenet.data.preparation.sources import CONTAINERS, Source
from wavenet.features.score import read_notes
from wavenet.utils.errors import WavenetError, printable

SILENT = 1e-4  # standard deviation
OFFSET = 0.01  # of the mean from 0


@dataclass(frozen=True)
class Problem:
    """Why a recording cannot be used as it is.

    Attributes:
        reason: What was found and what is needed.
        option: Name of the option that helps; empty if it can only be left out.
    """

    reason: str
    option: str = ""

    @property
    def remedy(self) -> str:
        """The option to set."""
        if self.option == "min_seconds":
            return "a lower data.min_seconds"
        return f"data.{self.option or 'skip_invalid'}=true"


@dataclass(frozen=True)
class Inspection:
    """What one recording holds.

    Attributes:
        name: The recording, relative to the root.
        problems: What keeps it out, worst first; empty for a good one.
        repairs: Options that repair it.
        notes: What is unusual but harmless.
        frames: Samples a channel that can be decoded.
        sample_rate: As recorded, in Hz.
        peak: Largest absolute sample of any channel.
        power: Mean square of the channels' mean.
        past_one: Samples past 1.0.
        silent: Whether the channels' mean is silent.
    """

    name: str
    problems: tuple[Problem, ...] = ()
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    frames: int = 0
    sample_rate: int = 1
    peak: float = 0.0
    power: float = 0.0
    past_one: int = 0
    silent: bool = False

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.frames / self.sample_rate


@dataclass
class _Levels:
    """Sums over the samples seen so far; those that are not finite count as 0."""

    frames: int = 0
    peak: float = 0.0
    past_one: int = 0
    not_finite: int = 0
    first_not_finite: str = ""
    mean_sum: float = 0.0
    mean_square_sum: float = 0.0
    square_sum: float = 0.0

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take in a block, `(T, C)`."""
        size = np.abs(samples)
        if not math.isfinite(size.max()):
            finite = np.isfinite(samples)
            if not self.not_finite:
                frame, channel = np.argwhere(~finite)[0]
                place = f"frame {self.frames + frame} of channel {channel}"
                self.first_not_finite = f"{samples[frame, channel]} at {place}"
            self.not_finite += int(finite.size - finite.sum())
            samples, size = np.where(finite, samples, 0), np.where(finite, size, 0)
        peak = float(size.max())
        self.peak = max(self.peak, peak)
        self.past_one += int((size > 1).sum()) if peak > 1 else 0
        mean = samples.mean(axis=1, dtype=np.float64) if samples.shape[1] > 1 else samples[:, 0]
        self.mean_sum += float(mean.sum(dtype=np.float64))
        self.mean_square_sum += _square_sum(mean)
        self.square_sum += _square_sum(samples) / samples.shape[1]
        self.frames += len(samples)

    @property
    def offset(self) -> float:
        return self.mean_sum / max(1, self.frames)

    @property
    def power(self) -> float:
        return self.mean_square_sum / max(1, self.frames)

    @property
    def silent(self) -> bool:
        return self.power - self.offset**2 < SILENT**2

    @property
    def cancels(self) -> bool:
        """Whether the channels are loud, and their mean is silent."""
        return self.silent and self.square_sum / max(1, self.frames) - self.offset**2 > SILENT**2


def _square_sum(samples: NDArray[Any]) -> float:
    return float(np.square(samples, dtype=np.float64).sum())


def inspect(source: Source, options: PrepareOptions) -> Inspection:
    """Decode all of `source` and return its properties, and its problems under `options`."""
    levels, problems, repairs = _Levels(), [], []
    try:
        header = read_header(source.path, allow_truncated=options.allow_truncated)
        for block in read_blocks(source.path, allow_truncated=options.allow_truncated):
            levels.add(block)
        if not levels.frames:
            return Inspection(source.name, (Problem("no sample can be decoded"),))
        remarks = _remarks(source, header, levels)
    except WavenetError as error:
        option = "allow_truncated" if isinstance(error, TruncatedAudio) else ""
        reason = str(error).removeprefix(f"{printable(source.path)}: ")  # the list has the path
        return Inspection(source.name, (Problem(reason, option),))
    for problem in _problems(source, header, levels, options):
        overshoots = header.is_lossy and levels.peak <= MAX_OVERSHOOT
        accepted = problem.option == "clip" and overshoots
        if accepted or (problem.option and getattr(options, problem.option) is True):
            repairs.append(problem.option)
        else:
            problems.append(problem)
    if options.allow_truncated and _is_truncated(source, header, levels):
        repairs.append("allow_truncated")
    return Inspection(
        source.name,
        tuple(problems),
        tuple(repairs),
        remarks,
        frames=levels.frames,
        sample_rate=header.sample_rate,
        peak=levels.peak,
        power=levels.power,
        past_one=levels.past_one,
        silent=levels.silent,
    )


def _problems(
    source: Source, header: AudioHeader, levels: _Levels, options: PrepareOptions
) -> list[Problem]:
    """Return what is wrong, worst first, with the option that repairs it."""
    rate, seconds = header.sample_rate, levels.frames / header.sample_rate
    silence = "silent once mixed, its channels cancel" if levels.cancels else "silent"
    not_finite = f"{levels.first_not_finite}, {levels.not_finite} such samples"
    past_one = f"{levels.past_one} samples past 1.0, peak {levels.peak:.4g}"
    if header.is_lossy and levels.peak > MAX_OVERSHOOT:
        past_one += ", perhaps damaged: leave it out, or"
    short = f"{seconds:.3f} s long, wanted {options.min_seconds:g} s or more"
    table = (
        (levels.not_finite > 0, not_finite, "nan_to_num"),
        (levels.past_one > 0, past_one, "clip"),
        (rate != options.sample_rate, f"{rate} Hz, wanted {options.sample_rate} Hz", "resample"),
        (header.channels > 1, f"{header.channels} channels, wanted 1", "mono"),
        (levels.silent, f"{silence}: standard deviation under {SILENT:g}", "allow_silent"),
        (seconds < options.min_seconds, short, "min_seconds"),
    )
    problems = [Problem(reason, option) for found, reason, option in table if found]
    frames = frames_problem(source, -(-levels.frames * options.sample_rate // rate))
    return problems if frames is None else [*problems, Problem(*frames)]


def _remarks(source: Source, header: AudioHeader, levels: _Levels) -> tuple[str, ...]:
    """Return what is unusual but harmless."""
    rate, late = header.sample_rate, 0
    if source.notes is not None:
        late = sum(note.onset >= levels.frames / rate for note in read_notes(source.notes))
    foreign = header.container not in CONTAINERS[source.suffix]
    table = (
        (has_open_end(source.path), OPEN_END),
        (foreign, f"is {header.container}, not what its suffix says"),
        (abs(levels.offset) > OFFSET, f"mean is {levels.offset:+.3f}, not 0 (DC offset)"),
        (late, f"{late} notes start after its end"),
    )
    return tuple(remark for found, remark in table if found)


def _is_truncated(source: Source, header: AudioHeader, levels: _Levels) -> bool:
    if levels.frames < header.frames:
        return True
    try:
        read_header(source.path)
    except TruncatedAudio:
        return True
    return False
