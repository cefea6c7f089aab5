"""A model measured and heard: bits per sample, copies beside yardsticks, recordings, facts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wavenet.checkpoint import Checkpoint
from wavenet.conventions import ShapingConfig
from wavenet.data.manifest import Clip, frames_of
from wavenet.errors import printable
from wavenet.evaluation.distances import HEADINGS, mean_scores, row_of
from wavenet.evaluation.options import ReportOptions
from wavenet.evaluation.report import Recording, Table
from wavenet.evaluation.scores import excerpts_of, first_seconds, score_table, scores
from wavenet.evaluation.voice import COPY, Copied, Voice
from wavenet.plain import to_dict


@dataclass
class Evaluation:
    """What is known of a model.

    Attributes:
        bits: Bits per sample by name, the model's first; empty where nothing is held out.
        tables: Measures of copies; empty for a model that speaks by itself.
        recordings: What there is to hear.
        facts: What to know about the model, by name.
    """

    bits: dict[str, float] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the measures as lines to print."""
        bits = [f"{self.facts[MEASURED]}\n{score_table(self.bits)}"] if self.bits else []
        tables = [table.text() for table in self.tables]
        pace = [f"real-time factor {self.facts[PACE]}"] if PACE in self.facts else []
        return "\n\n".join([*bits, *tables, *pace])


MEASURED = "Bits measured on"
PACE = "Real-time factor"


def evaluate(
    loaded: Checkpoint,
    folder: Path,
    clips: Sequence[Clip],
    options: ReportOptions,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Return a model's bits per sample, and what it says.

    Args:
        loaded: The model.
        folder: Prepared recordings.
        clips: Of them, those that are held out.
        options: How much.
        seed: Of the draws.
        progress: Called with the samples whose bits were measured since the last call.
    """
    result = Evaluation(facts=_facts(loaded))
    measured = first_seconds(clips, options.evaluate_seconds)
    if measured:
        excerpts = excerpts_of(loaded.model.config, loaded.audio, folder)
        result.bits = scores(loaded.model, excerpts, measured, progress)
        seconds = int(frames_of(measured).sum()) / loaded.audio.sample_rate
        result.facts[MEASURED] = (
            f"{len(measured)} held-out clip{'s' * (len(measured) > 1)}, {seconds:.0f} s"
        )
    if not options.seconds:
        return result
    voice = Voice(loaded, folder, options, seed)
    if loaded.audio.features:
        copied = list(voice.copies(clips))
        result.tables = _tables(copied)
        for number, one in enumerate(copied, start=1):
            result.recordings += _recordings(voice, number, one)
    else:
        result.recordings = [*voice.free(), *voice.continued(clips)]
    factor = voice.real_time_factor
    if factor is not None:
        result.facts[PACE] = f"{factor:.3f} on one core ({voice.sampler.name}, float32)"
        result.facts["Temperature"] = f"{options.temperature:g}"
    return result


def _recordings(voice: Voice, number: int, copied: Copied) -> list[Recording]:
    told = " and ".join(voice.audio.features)
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
    mean = {kind: row_of(mean_scores([one.scores[kind] for one in copied])) for kind in kinds}
    each = {
        f"{kind}-{number}": row_of(one.scores[kind])
        for number, one in enumerate(copied, start=1)
        for kind in kinds
    }
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
    if loaded.audio.shaping != ShapingConfig():
        said = {**to_dict(loaded.audio.shaping), "predictor": None}
        facts["Shaping"] = ", ".join(f"{name} {value:g}" for name, value in said.items() if value)
        facts["Shaping"] += "; bits are of the shaped signal, copies of the recording"
    if loaded.audio.speakers:
        facts["Speakers"] = ", ".join(map(printable, loaded.audio.speakers))
    return facts
