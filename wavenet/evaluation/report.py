"""The listening page: scores and recordings of a model as one HTML file to send around.

Its template is `report.html.jinja`. Recordings are 16-bit WAV inside the file.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from wavenet.data.audio import wav_bytes
from wavenet.evaluation.metrics import METRIC_HEADINGS, mean_metrics
from wavenet.evaluation.nll import MODEL
from wavenet.evaluation.plots import png, spectrogram
from wavenet.evaluation.synthesis import Recording, Resynthesis
from wavenet.utils.errors import DataError, printable, require
from wavenet.utils.files import write_text

METRICS_NOTE = (
    "Compared with the original; means over the clips where a metric is defined. ↓: lower is "
    "better, ↑: higher is better. Mel: mean difference of log mel spectra; STFT: multi-resolution "
    "STFT distance; MCD: mel-cepstral distortion; F0: root mean square error where both are "
    "voiced; voicing: fraction of frames that are voiced in one of the two only; PESQ: narrow band "
    "at 8 kHz, otherwise wide band; -: undefined or not installed (PESQ, STOI and onsets need "
    "pip install 'torch-wavenet[evaluate]')."
)
ONSETS_NOTE = "F-measure of onsets against the score, within 50 ms; 1 is best."


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


def resynthesis_tables(resyntheses: Sequence[Resynthesis]) -> list[Table]:
    """Return the mean metrics, the onset F-measures if there are any, and the metrics by clip."""
    if not resyntheses:
        return []
    columns, names = list(METRIC_HEADINGS.values()), list(resyntheses[0].metrics)
    means = {name: mean_metrics([r.metrics[name] for r in resyntheses]).row() for name in names}
    by_clip = {f"{name}-{r.number}": r.metrics[name].row() for r in resyntheses for name in names}
    onsets: dict[str, list[float | None]] = {}
    for name in dict.fromkeys(name for r in resyntheses for name in r.onset_f_measures):
        values = [r.onset_f_measures.get(name) for r in resyntheses]
        defined = [value for value in values if value is not None]
        if defined:
            onsets[name] = [sum(defined) / len(defined)]
    tables = [Table("Resynthesis", METRICS_NOTE, columns, means)]
    if onsets:
        tables.append(Table("Onsets", ONSETS_NOTE, ["onsets F ↑"], onsets))
    return [*tables, Table("Resynthesis by clip", "", columns, by_clip)]


def write_report(
    path: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    bits_per_sample: Mapping[str, float],
    recordings: Sequence[Recording],
    tables: Sequence[Table] = (),
    curve_png: bytes | None = None,
) -> None:
    """Write the listening page to `path`, atomically.

    Args:
        path: An `.html` file.
        title: Heading of the page.
        facts: Facts about the model, by name.
        bits_per_sample: By name; the first is the model, whose bar is highlighted.
        recordings: In the order of the page.
        tables: Other metrics, between the bits per sample and the recordings.
        curve_png: Picture of the learning curve.

    Raises:
        DataError: A recording contains NaN or infinity.
        MachineError: jinja2 or matplotlib is not installed.
    """
    for recording in recordings:
        if not np.isfinite(recording.waveform).all():
            raise DataError(f"recording {printable(recording.name)!r} contains NaN or infinity")
    source = resources.files(__package__).joinpath("report.html.jinja").read_text("utf-8")
    jinja2: Any = require("jinja2", "train")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    longest_bar = max([*bits_per_sample.values(), 1e-9])
    page = environment.from_string(source).render(
        title=title,
        bits_per_sample=bits_per_sample,
        tables=tables,
        recordings=recordings,
        learning_curve=curve_png and _data_uri("image/png", curve_png),
        facts=facts,
        bar_width=lambda bits: f"{100 * max(bits, 0.0) / longest_bar:.2f}%",
        number=_number,
        duration=lambda r: f"{len(r.waveform) / r.sample_rate:.2f} s at {r.sample_rate:,} Hz",
        audio=lambda r: _data_uri("audio/wav", wav_bytes(r.waveform, r.sample_rate)),
        picture=lambda r: _data_uri("image/png", png(spectrogram(r.waveform, r.sample_rate, ""))),
    )
    write_text(path, page)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
