"""The closing table of `prepare`: what came in, what went out, and what was done on the way."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wavenet.data.manifest import SPLITS, Clip
from wavenet.data.preparation.inspection import Inspection
from wavenet.data.preparation.sources import SourceListing
from wavenet.data.preparation.work_dir import Record
from wavenet.utils.errors import listed, printable

MAX_NAMES = 10


@dataclass(frozen=True)
class SplitTotal:
    """What one split holds: `files` recordings in `clips` clips of `seconds` together."""

    split: str
    files: int
    clips: int
    seconds: float


@dataclass(frozen=True)
class PreparationSummary:
    """Summary of a preparation.

    Attributes:
        sample_rate: Rate of every clip, in Hz.
        files: Recordings found.
        seconds: Length of those that could be decoded and were taken.
        splits: The clips, by split.
        left_out: Why recordings were left out, by name.
        repairs: Number of recordings repaired, by option.
        notes: What is unusual but harmless, by recording.
        others: Number of other files, by suffix.
        hidden: Files and folders left alone because their names start with a dot.
        linked_folders: Linked folders, which are not followed.
        peak: Largest absolute sample of the recordings taken.
        rms: Root of the mean square of the recordings taken.
        clipped: Samples past 1.0 in the recordings, limited to 1.0.
        overshoot: Samples that resampling put past 1.0, limited to 1.0.
        too_short: Pieces left out because they are shorter than `min_seconds`.
        removed_seconds: Silence and too short pieces left out by trimming and splitting.
        silent: Recordings taken although they are silent.
        speakers: Speakers with a name.
        upsampled: Rates in Hz, lower than that of the clips, of the recordings that have one.
        already_prepared: Whether the clips existed and nothing was done.
    """

    sample_rate: int
    files: int
    seconds: float
    splits: tuple[SplitTotal, ...]
    left_out: dict[str, str]
    repairs: dict[str, int]
    notes: dict[str, str]
    others: dict[str, int]
    hidden: int
    linked_folders: int
    peak: float
    rms: float
    clipped: int
    overshoot: int
    too_short: int
    removed_seconds: float
    silent: int
    speakers: int
    upsampled: dict[str, int] = field(default_factory=dict)
    already_prepared: bool = False

    def line(self) -> str:
        """Return a summary in one line, and a warning that concerns what is trained on it."""
        seconds = sum(total.seconds for total in self.splits)
        clips = sum(total.clips for total in self.splits)
        line = f"already prepared: {clips:,} clips, {seconds / 60:.2f} minutes"
        return "\n".join([line, *self._warning()])

    def table(self) -> str:
        """Return a table for people."""
        clips = sum(total.clips for total in self.splits)
        seconds = sum(total.seconds for total in self.splits)
        taken = sum(total.files for total in self.splits)
        lines = ["already prepared: unchanged"] if self.already_prepared else []
        lines += [
            f"{'':8}{'files':>8}{'clips':>8}{'minutes':>10}",
            _row("found", self.files, None, None),
            _row("taken", taken, None, self.seconds),
            *(_row(total.split, total.files, total.clips, total.seconds) for total in self.splits),
            _row("out", taken, clips, seconds),
        ]
        speakers = f", {self.speakers} speakers" if self.speakers else ""
        lines += [
            f"clips are mono, 16-bit, {self.sample_rate} Hz{speakers}",
            f"level of the recordings: peak {_decibels(self.peak)}, RMS {_decibels(self.rms)}",
            *self._done(),
            *_names("left out", self.left_out),
            *_once(self.notes),
            *self._warning(),
        ]
        return "\n".join(lines)

    def _warning(self) -> list[str]:
        """Return a line on recordings that cannot fill the band of the clips, if there are any."""
        if not self.upsampled:
            return []
        (first, *_), taken = self.upsampled, sum(total.files for total in self.splits)
        low, high = min(self.upsampled.values()), max(self.upsampled.values())
        half, rates = f"{low / 2:g} Hz", f"{low} Hz"
        if low < high:
            half, rates = f"{low / 2:g} to {high / 2:g} Hz", f"{low} to {high} Hz"
        text = (
            f"warning: {len(self.upsampled)} of {taken} recordings are upsampled to "
            f"{self.sample_rate} Hz from {rates}, the first is {printable(first, 80)}: above half "
            f"of their rate, {half}, they are empty, and nothing there can be learnt from them; "
            "leave them out"
        )
        most = 2 * len(self.upsampled) > taken
        return [f"{text}, or train at audio.sample_rate={low}" if most else text]

    def _done(self) -> list[str]:
        """Return a line for each count that is not 0."""
        repaired = ", ".join(f"{option} {count}" for option, count in self.repairs.items())
        others = ", ".join(f"{count} {printable(name, 20)}" for name, count in self.others.items())
        trimmed = self.removed_seconds or self.too_short
        removed = f"{self.removed_seconds:.1f} s, with {self.too_short} pieces that were too short"
        lines = (
            (repaired, f"recordings repaired: {repaired}"),
            (self.clipped, f"samples past 1.0, clipped: {self.clipped}"),
            (self.overshoot, f"samples put past 1.0 by resampling, clipped: {self.overshoot}"),
            (self.silent, f"silent recordings taken: {self.silent}"),
            (trimmed, f"removed by trimming and splitting: {removed}"),
            (others, f"other files, not looked at: {printable(others, 160)}"),
            (self.hidden, f"hidden files and folders, not looked at: {self.hidden}"),
            (self.linked_folders, f"linked folders, not followed: {self.linked_folders}"),
        )
        return [line for count, line in lines if count]


@dataclass(frozen=True)
class ShardReport:
    """Result of one of several jobs, each of which prepares a shard of the recordings.

    Attributes:
        shard: Which one, as `i/n`.
        files: Recordings found, of all shards.
        own: Of them, the shard's.
        before: Of the shard's, those that an earlier job had finished.
        left_out: Why recordings of the shard were left out, by name.
        finished: Recordings that are finished, of all shards.
    """

    shard: str
    files: int
    own: int
    before: int
    left_out: dict[str, str]
    finished: int

    def table(self) -> str:
        """Return lines for people, with the next command."""
        now = self.own - self.before - len(self.left_out)
        did = f"{now} prepared now, {self.before} before"
        lines = [
            f"shard {self.shard}: {self.own} of {self.files} recordings, {did}",
            *_names("left out", self.left_out),
            f"finished in all shards: {self.finished} of {self.files}",
            "when all have ended, the same command without shard= converts the rest and publishes",
            "the clips; so does training",
        ]
        return "\n".join(lines)


def summarize(
    found: SourceListing,
    records: Sequence[Record],
    clips: Sequence[Clip],
    skipped: Iterable[Inspection],
    sample_rate: int,
) -> PreparationSummary:
    """Return the summary of a prepared folder.

    Args:
        found: What lay below the root.
        records: The finished recordings.
        clips: What was written, with its splits.
        skipped: The recordings left out because something is wrong with them.
        sample_rate: Rate of the clips, in Hz.
    """
    taken = [record for record in records if record.converted.clips]
    seen = [record.inspection for record in taken]
    frames = sum(inspection.frames for inspection in seen)
    energy = math.fsum(inspection.power * inspection.frames for inspection in seen)
    left_out = remarks_on(skipped)
    for record in records:
        if not record.converted.clips:
            left_out[record.inspection.name] = "no piece is as long as min_seconds"
    repairs = Counter(repair for inspection in seen for repair in inspection.repairs)
    return PreparationSummary(
        sample_rate=sample_rate,
        files=len(found.sources),
        seconds=math.fsum(inspection.seconds for inspection in seen),
        splits=tuple(_total(split, clips) for split in SPLITS),
        left_out=dict(sorted(left_out.items())),
        repairs=dict(sorted(repairs.items())),
        notes={one.name: "; ".join(one.notes) for one in seen if one.notes},
        others=dict(found.others),
        hidden=found.hidden,
        linked_folders=found.linked_folders,
        peak=max(inspection.peak for inspection in seen),
        rms=math.sqrt(energy / max(1, frames)),
        clipped=sum(inspection.past_one for inspection in seen),
        overshoot=sum(record.converted.overshoot for record in taken),
        too_short=sum(record.converted.too_short for record in records),
        removed_seconds=math.fsum(record.converted.removed_seconds for record in records),
        silent=sum(inspection.silent for inspection in seen),
        speakers=len({clip.speaker for clip in clips} - {""}),
        upsampled={one.name: one.sample_rate for one in seen if one.sample_rate < sample_rate},
    )


def remarks_on(bad: Iterable[Inspection]) -> dict[str, str]:
    """Return the problems of recordings, by name."""
    return {one.name: "; ".join(problem.reason for problem in one.problems) for one in bad}


def _total(split: str, clips: Iterable[Clip]) -> SplitTotal:
    mine = [clip for clip in clips if clip.split == split]
    seconds = math.fsum(clip.frames / clip.sample_rate for clip in mine)
    return SplitTotal(split, len({clip.source for clip in mine}), len(mine), seconds)


def _decibels(amplitude: float) -> str:
    return f"{20 * math.log10(amplitude):.1f} dBFS" if amplitude > 0 else "-inf dBFS"


def _row(name: str, files: int, clips: int | None, seconds: float | None) -> str:
    minutes = "" if seconds is None else f"{seconds / 60:.2f}"
    return f"{name:8}{files:8}{'' if clips is None else clips:>8}{minutes:>10}"


def _names(title: str, remarks: Mapping[str, str]) -> list[str]:
    lines = [f"{printable(name, 80)}: {printable(text)}" for name, text in remarks.items()]
    return [f"{title}: {len(remarks)}{listed(lines, MAX_NAMES)}"] if remarks else []


def _once(notes: Mapping[str, str]) -> list[str]:
    """Return the notes, each once: with the recording, or the number of recordings that have it."""
    names: dict[str, list[str]] = {}
    for name, text in notes.items():
        names.setdefault(text, []).append(printable(name, 80))
    lines = []
    for text, (first, *others) in names.items():
        which = f"{1 + len(others)} recordings, the first is {first}" if others else first
        lines.append(f"{which}: {printable(text)}")
    return [f"to note: {len(notes)}{listed(lines, MAX_NAMES)}"] if notes else []
