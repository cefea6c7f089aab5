"""A model measured and heard: bits per sample, copies beside yardsticks, recordings, facts."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wavenet.checkpoint import Checkpoint
from wavenet.config import FilterConfig
from wavenet.data.clip_reader import ClipReader
from wavenet.data.manifest import Clip, frames_of
from wavenet.evaluation.metrics import HEADINGS, CopyScores, mean_scores, row_of
from wavenet.evaluation.nll import Nats
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.report import Recording, Table
from wavenet.evaluation.scores import (
    excerpts_of,
    first_seconds,
    model_nats,
    score_table,
    scores,
)
from wavenet.evaluation.voice import ALL, COPY, Copied, Voice
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import printable
from wavenet.utils.sharding import Shard


@dataclass
class Evaluation:
    """What is known of a model.

    Attributes:
        bits: Bits per sample by name, the model's first; empty where nothing is held out.
        tables: Measures of copies; empty for a model that speaks by itself.
        recordings: What there is to hear.
        facts: What to know about the model, by name.
        copied: Clips spoken again, as measured.
        real_time_factor: Seconds of work for a second of audio, on one core.
    """

    bits: dict[str, float] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    copied: list[Copied] = field(default_factory=list)
    real_time_factor: float | None = None

    def text(self) -> str:
        """Return the measures as lines to print."""
        bits = [f"{self.facts[MEASURED]}\n{score_table(self.bits)}"] if self.bits else []
        tables = [table.text() for table in self.tables]
        pace = [f"real-time factor {self.facts[PACE]}"] if PACE in self.facts else []
        return "\n\n".join([*bits, *tables, *pace])


MEASURED = "Bits measured on"
PACE = "Real-time factor"


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        loaded: The model.
        folder: Prepared recordings.
        clips: Of them, those that are held out.
        options: How much.
        seed: Of the draws.
    """

    loaded: Checkpoint
    folder: Path
    clips: Sequence[Clip]
    options: EvaluationOptions
    seed: int = 0

    @property
    def measured(self) -> Sequence[Clip]:
        """The clips whose bits are measured."""
        return first_seconds(self.clips, self.options.eval_seconds)

    def excerpts(self) -> ClipReader:
        """Return what reads the clips as the model wants them."""
        return excerpts_of(self.loaded.model.config, self.loaded.audio, self.folder)

    def voice(self) -> Voice:
        """Return what draws from the model."""
        return Voice(self.loaded, self.folder, self.options, self.seed)


@dataclass
class Part:
    """What was measured of a subject, all of it or a shard's.

    Attributes:
        nats: What its clips cost, by what the model was told.
        copied: Clips spoken again.
        drawn: Samples of those.
        took: Seconds of work for them.
    """

    nats: dict[str, Nats]
    copied: list[Copied] = field(default_factory=list)
    drawn: int = 0
    took: float = 0.0


def evaluate(subject: Subject, progress: Callable[[int], None] | None = None) -> Evaluation:
    """Return a model's bits per sample, and what it says.

    Args:
        subject: The model, and on what.
        progress: Called with the samples whose bits were measured since the last call.
    """
    return together(subject, [measure(subject, ALL, progress)])


def measure(subject: Subject, shard: Shard, progress: Callable[[int], None] | None = None) -> Part:
    """Return what a model's work on a shard of the clips, and of the copies, comes to.

    Args:
        subject: The model, and on what.
        shard: Every how many-th clip, and copy.
        progress: Called with the samples whose bits were measured since the last call.
    """
    loaded = subject.loaded
    clips = shard.of(subject.measured)
    part = Part(model_nats(loaded.model, subject.excerpts(), clips, progress))
    if subject.options.sample_seconds and loaded.audio.features:
        voice = subject.voice()
        part.copied = list(voice.copies(subject.clips, shard))
        part.drawn, part.took = voice.drawn, voice.took
    return part


def together(subject: Subject, parts: Sequence[Part]) -> Evaluation:
    """Return the evaluation that its parts come to.

    What takes a model's whole work is in the parts. The rest is done here, on all clips: the
    yardsticks, which are fitted on all that they measure, and what a model says by itself.
    """
    loaded, options = subject.loaded, subject.options
    result, measured = Evaluation(facts=_facts(loaded)), subject.measured
    if measured:
        nats = {
            name: functools.reduce(Nats.plus, [part.nats[name] for part in parts])
            for name in parts[0].nats
        }
        result.bits = scores(nats, loaded.model, subject.excerpts(), measured)
        seconds = int(frames_of(measured).sum()) / loaded.audio.sample_rate
        result.facts[MEASURED] = (
            f"{len(measured)} held-out clip{'s' * (len(measured) > 1)}, {seconds:.0f} s"
        )
    if not options.sample_seconds:
        return result
    voice = subject.voice()
    if loaded.audio.features:
        copied = [one for part in parts for one in part.copied]
        result.copied = sorted(copied, key=lambda one: one.number)
        result.tables = _tables(result.copied)
        for one in result.copied:
            result.recordings += _recordings(voice, one)
    else:
        result.recordings = [*voice.free(), *voice.continued(subject.clips)]
    drawn = voice.drawn + sum(part.drawn for part in parts)
    if drawn:
        took = voice.took + sum(part.took for part in parts)
        factor = result.real_time_factor = took * loaded.audio.sample_rate / drawn
        way = f"one core, {voice.sampler.name}, float32"
        result.facts[PACE] = f"{factor:.3f}, {1 / factor:.2f} times real time ({way})"
        result.facts["Temperature"] = f"{options.temperature:g}"
    return result


def means_of(copied: Sequence[Copied]) -> dict[str, CopyScores]:
    """Return the mean distances over clips, by kind of copy."""
    kinds = copied[0].scores if copied else ()
    return {kind: mean_scores([one.scores[kind] for one in copied]) for kind in kinds}


def _recordings(voice: Voice, copied: Copied) -> list[Recording]:
    number, told = copied.number, " and ".join(voice.audio.features)
    said = {
        COPY: f"drawn from the {told} of the original",
        "round trip": "the original, rounded to the codes that the model puts out",
        "Griffin-Lim": "from the mel of the original, without a model",
    }
    source = f"held out: {printable(copied.clip.source, 60)}"
    return [
        voice.recording(f"original-{number}", copied.original, source),
        *(
            voice.recording(f"{name.lower().replace(' ', '-')}-{number}", waveform, said[name])
            for name, waveform in copied.copies.items()
        ),
    ]


def _tables(copied: Sequence[Copied]) -> list[Table]:
    if not copied:
        return []
    kinds = list(copied[0].scores)
    headings = list(HEADINGS.values())
    mean = {kind: row_of(scores) for kind, scores in means_of(copied).items()}
    each = {f"{kind}-{one.number}": row_of(one.scores[kind]) for one in copied for kind in kinds}
    note = (
        "Distances from the original, means over the clips where they could be measured: ↓ less is "
        "better, ↑ more is. Mel: mean difference of log spectra; STFT: at three resolutions; MCD: "
        "mel-cepstral distortion; F0: root mean square where both are voiced; voicing: share of "
        "frames that one alone voices; PESQ: narrow band at 8 kHz, else wide; - for what could not "
        "be measured (PESQ, STOI and onsets come with pip install 'torch-wavenet[evaluate]')."
    )
    tables = [Table("Copies", note, headings, mean)]
    onsets = _onsets(copied)
    if onsets is not None:
        tables.append(onsets)
    return [*tables, Table("Clip by clip", "", headings, each)]


def _onsets(copied: Sequence[Copied]) -> Table | None:
    """Return the means over clips of the onsets' F-measures, if there are any."""
    rows: dict[str, list[float | None]] = {}
    for name in dict.fromkeys(name for one in copied for name in one.onsets):
        values = [one.onsets.get(name) for one in copied]
        there = [value for value in values if value is not None]
        if there:
            rows[name] = [sum(there) / len(there)]
    note = "F-measure of onsets against the score, within 50 ms; 1 is best."
    return Table("Onsets", note, ["onsets F ↑"], rows) if rows else None


def _facts(loaded: Checkpoint) -> dict[str, str]:
    model, training = loaded.model, loaded.training
    seconds = model.config.receptive_field_seconds(loaded.audio.sample_rate)
    facts = {
        "Data": training.data,
        "Training audio": f"{training.seconds_of_audio / 60:.1f} minutes",
        "Sample rate": f"{loaded.audio.sample_rate:,} Hz",
        "Steps": f"{training.steps:,}",
        "Blocks": str(len(model.config.dilations)),
        "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "Receptive field": f"{model.config.receptive_field:,} samples, {1000 * seconds:.0f} ms",
    }
    if loaded.audio.features:
        facts["Conditioned on"] = " and ".join(loaded.audio.features)
    if loaded.audio.filter != FilterConfig():
        said = {**to_dict(loaded.audio.filter), "predictor": None}
        facts["Shaping"] = ", ".join(f"{name} {value:g}" for name, value in said.items() if value)
        facts["Shaping"] += "; bits are of the shaped signal, copies of the recording"
    if loaded.audio.speaker_names:
        facts["Speakers"] = ", ".join(map(printable, loaded.audio.speaker_names))
    return facts
