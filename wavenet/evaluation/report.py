"""Results of an evaluation: as lines to print, as JSON, and as a listening page.

The page is one HTML file to send around, with the recordings inside as 16-bit WAV. Its template is
`report.html.jinja`.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from wavenet.data.audio import open_wav, wav_bytes
from wavenet.evaluation.metrics import (
    ResynthesisMetrics,
    mean_metrics,
    mean_of_defined,
    unmeasured,
)
from wavenet.evaluation.nll import MODEL
from wavenet.evaluation.plots import png, spectrogram
from wavenet.evaluation.synthesis import RESYNTHESIS, Recording, Resynthesis, ResynthesisScores
from wavenet.evaluation.verdict import Verdict, judge
from wavenet.utils.dataclass_io import narrow, to_dict
from wavenet.utils.errors import DataError, printable, require
from wavenet.utils.files import atomic_file, write_text
from wavenet.utils.progress import progress

HELD_OUT = "Held-out audio"
REAL_TIME_FACTOR = "Real-time factor"
ORIGINAL, THIS_MODEL = "original", "this model"  # headings of the recordings that open the page
# In the order of `ResynthesisMetrics`; the arrow points to what is better.
HEADINGS = ("mel dB ↓", "STFT ↓", "MCD dB ↓", "F0 cents ↓", "voicing ↓", "PESQ ↑", "STOI ↑")
METRICS_NOTE = (
    "Compared with the original; means over the clips where a metric is defined. ↓: lower is "
    "better, ↑: higher is better. Mel: mean difference of log mel spectra; STFT: multi-resolution "
    "STFT distance; MCD: mel-cepstral distortion; F0: root mean square error where both are "
    "voiced; voicing: fraction of frames that are voiced in one of the two only; passes: of mel "
    "consistency, which gives a signal the mel of the original; PESQ: narrow band at 8 kHz, "
    "otherwise wide band; -: undefined."
)
ONSETS_NOTE = "F-measure of onsets against the score, within 50 ms; 1 is best."


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of an evaluation.

    Attributes:
        num_clips: Clips that `bits_per_sample` is measured on.
        num_samples: Their samples.
        sample_rate: In Hz.
        bits_per_sample: By name: the model, then the baselines; empty without held-out clips.
        resyntheses: Held-out clips, generated again from their features.
        recordings: For the listening page.
        facts: Facts about the model and the evaluation, by name.
        real_time_factor: Seconds of computation per second of audio, on one core.
    """

    num_clips: int
    num_samples: int
    sample_rate: int
    bits_per_sample: dict[str, float]
    resyntheses: Sequence[Resynthesis]
    recordings: Sequence[Recording]
    facts: dict[str, str]
    real_time_factor: float | None

    def text(self) -> str:
        """Return the results as lines to print; those of each clip are in the page and in JSON."""
        parts = [table.text() for table in mean_tables(self.resyntheses)]
        lacking = unmeasured_metrics(self.resyntheses)
        if lacking:
            parts.append(lacking)
        if self.num_clips:
            parts.insert(
                0, f"{HELD_OUT}: {self.facts[HELD_OUT]}\n{bits_text(self.bits_per_sample)}"
            )
        if self.real_time_factor is not None:
            parts.append(f"real-time factor {self.facts[REAL_TIME_FACTOR]}")
        if self.verdict is not None:
            parts.append(f"verdict: {self.verdict.text}")
        return "\n\n".join(parts)

    @property
    def verdict(self) -> Verdict | None:
        """Whether the model is better than its baseline; of a vocoder, with mel consistency."""
        means = mean_metrics_by_name(self.resyntheses)
        passes = self.resyntheses[0].passes if self.resyntheses else 0
        return judge(self.bits_per_sample, means, model=MODEL, passes=passes)

    def to_json(self) -> dict[str, Any]:
        """Return the results as plain data for JSON."""
        means = mean_metrics_by_name(self.resyntheses)
        return {
            "clips": self.num_clips,
            "samples": self.num_samples,
            "sample_rate": self.sample_rate,
            "bits_per_sample": self.bits_per_sample,
            "mean_metrics": {name: to_dict(mean) for name, mean in means.items()},
            "resyntheses": [to_dict(narrow(ResynthesisScores, one)) for one in self.resyntheses],
            "real_time_factor": self.real_time_factor,
            "facts": self.facts,
        }

    def figures(self) -> dict[str, float]:
        """Return the model's bits per sample and mean metrics by name, for its card."""
        found = {"bits per sample ↓": self.bits_per_sample.get(MODEL)}
        mean = mean_metrics_by_name(self.resyntheses).get(RESYNTHESIS)
        if mean is not None:
            found |= dict(zip(HEADINGS, astuple(mean), strict=True))
        return {name: x for name, x in found.items() if x is not None and math.isfinite(x)}


@dataclass(frozen=True)
class Table:
    """A table of metrics, for the page and for the terminal.

    Attributes:
        heading: What is measured.
        note: A sentence below the heading; may be empty.
        columns: Names of the metrics.
        rows: Values by row name; `None` where a metric is undefined.
    """

    heading: str
    note: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[float | None]]

    def text(self) -> str:
        """Return the table as lines."""
        width = max(map(len, [self.heading, *self.rows]))
        lines = ["  ".join([self.heading.ljust(width), *self.columns])]
        for name, row in self.rows.items():
            cells = [_number(x).rjust(len(c)) for x, c in zip(row, self.columns, strict=True)]
            lines.append("  ".join([name.ljust(width), *cells]))
        return "\n".join(lines)


def bits_text(bits_per_sample: Mapping[str, float]) -> str:
    """Return bits per sample by name as lines, with the model's gain over each baseline."""
    lines = [f"{'':30}{'bits per sample':>16}{'model gains':>13}"]
    for name, value in bits_per_sample.items():
        gain = "" if name == MODEL else f"{value - bits_per_sample[MODEL]:13.3f}"
        lines.append(f"{name.replace('_', ' '):30}{value:16.3f}{gain}")
    return "\n".join(lines)


def mean_tables(resyntheses: Sequence[Resynthesis]) -> list[Table]:
    """Return the mean metrics, and the onset F-measures if there are any."""
    if not resyntheses:
        return []
    means = mean_metrics_by_name(resyntheses)
    rows = {name: astuple(mean) for name, mean in means.items()}
    lacking = unmeasured_metrics(resyntheses)
    note = f"{METRICS_NOTE} {lacking}" if lacking else METRICS_NOTE
    tables = [Table("Resynthesis", note, HEADINGS, rows)]
    onsets: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for one in resyntheses for name in one.onset_f_measures):
        mean = mean_of_defined(one.onset_f_measures.get(name) for one in resyntheses)
        if mean is not None:
            onsets[name] = [mean]
    if onsets:
        tables.append(Table("Onsets", ONSETS_NOTE, ["onsets F ↑"], onsets))
    return tables


def clip_tables(resyntheses: Sequence[Resynthesis]) -> list[Table]:
    """Return the metrics of each clip, one table if there are clips."""
    rows = {
        f"clip {one.number}: {name}": astuple(metrics)
        for one in resyntheses
        for name, metrics in one.metrics.items()
    }
    return [Table("Resynthesis by clip", "", HEADINGS, rows)] if rows else []


def unmeasured_metrics(resyntheses: Sequence[Resynthesis]) -> str:
    """Return which metrics were not measured for want of a package, or an empty text."""
    metrics = [mean for one in resyntheses for mean in one.metrics.values()]
    onsets = [value for one in resyntheses for value in one.onset_f_measures.values()]
    return unmeasured(metrics, onsets)


def write_report(
    path: Path,
    evaluation: Evaluation,
    *,
    title: str,
    curve_png: bytes | None = None,
    advice: str = "",
    run: Path | None = None,
    command: str = "",
    samples: Path | None = None,
) -> None:
    """Write the listening page to `path`, atomically.

    Args:
        path: An `.html` file.
        evaluation: What the page shows; the first bar, the model's, is highlighted.
        title: Heading of the page.
        curve_png: Picture of the learning curve.
        advice: What to do next; shown with the verdict.
        run: Folder of the run that trained the model; shown below the verdict.
        command: The next command; shown below the verdict too.
        samples: A folder for each recording as a WAV file and for its picture.

    Raises:
        DataError: A recording contains NaN or infinity.
        MachineError: jinja2 or matplotlib is not installed.
    """
    for recording in evaluation.recordings:
        if not np.isfinite(recording.waveform).all():
            raise DataError(f"recording {printable(recording.name)!r} contains NaN or infinity")
    source = resources.files(__package__).joinpath("report.html.jinja").read_text("utf-8")
    jinja2: Any = require("jinja2", "train")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pictures = _draw_pictures(evaluation.recordings, samples)
    longest_bar = max([*evaluation.bits_per_sample.values(), 1e-9])
    page = environment.from_string(source).render(
        title=title,
        verdict="" if evaluation.verdict is None else evaluation.verdict.text,
        advice=advice,
        run=run and printable(run, limit=1000),
        command=command,
        bits_per_sample=evaluation.bits_per_sample,
        tables=mean_tables(evaluation.resyntheses) + clip_tables(evaluation.resyntheses),
        clips=compared_clips(evaluation.recordings),
        recordings=[one for one in evaluation.recordings if not one.label],
        learning_curve=curve_png and _data_uri("image/png", curve_png),
        facts=evaluation.facts,
        bar_width=lambda bits: f"{100 * max(bits, 0.0) / longest_bar:.2f}%",
        number=_number,
        scores=_scores,
        duration=lambda r: f"{len(r.waveform) / r.sample_rate:.2f} s at {r.sample_rate:,} Hz",
        audio=lambda r: _data_uri("audio/wav", wav_bytes(r.waveform, r.sample_rate)),
        picture=lambda r: _data_uri("image/png", pictures[r.name]),
    )
    write_text(path, page)


def _draw_pictures(recordings: Sequence[Recording], folder: Path | None) -> dict[str, bytes]:
    """Return the picture of each recording as PNG, by name; write both into a folder, if given."""
    pictures, total = {}, len(recordings)
    with progress(total, unit="picture", description="drawing", disable=not total) as advance:
        for one in recordings:
            picture = png(spectrogram(one.waveform, one.sample_rate, title=""))
            if folder is not None:
                folder.mkdir(exist_ok=True)
                with open_wav(folder / f"{one.name}.wav", one.sample_rate) as file:
                    file.write(one.waveform)
                with atomic_file(folder / f"{one.name}.png") as temporary:
                    temporary.write_bytes(picture)
            pictures[one.name] = picture
            advance()
    return pictures


def compared_clips(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    """Return the recordings that the page opens with, by held-out clip."""
    clips: dict[str, list[Recording]] = {}
    for one in recordings:
        if one.label:
            clips.setdefault(one.clip, []).append(one)
    return clips


def _scores(recording: Recording) -> str:
    """Return the scores that say most about what is heard, as far as they are defined."""
    metrics = recording.metrics
    if metrics is None:
        return ""
    named = ("PESQ", metrics.pesq, 2), ("STOI", metrics.stoi, 3), ("mel dB", metrics.mel_db, 2)
    return ", ".join(f"{name} {x:.{decimals}f}" for name, x, decimals in named if x is not None)


def mean_metrics_by_name(resyntheses: Sequence[Resynthesis]) -> dict[str, ResynthesisMetrics]:
    """Return the metrics of each waveform, averaged over the clips."""
    names = resyntheses[0].metrics if resyntheses else ()
    return {name: mean_metrics([one.metrics[name] for one in resyntheses]) for name in names}


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
