"""The listening page: what a model scores and how it sounds, as one HTML file to send around.

Everything is inside the file: no script, no font, nothing is loaded, and its own policy forbids
it. Recordings are 16-bit WAV. Text from outside is escaped.
"""

import base64
import html
import io
import re
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wavenet.evaluation.plots import png, spectrogram
from wavenet.utils.errors import DataError, printable
from wavenet.utils.files import write_text


@dataclass(frozen=True)
class Recording:
    """A sound on the page.

    Attributes:
        name: Its heading.
        waveform: Samples, `(T,)`; what is outside [-1, 1] is clipped.
        sample_rate: Samples a second, in Hz.
        note: A sentence below the heading; may be empty.
    """

    name: str
    waveform: npt.NDArray[np.floating[Any]]
    sample_rate: int
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Measures on the page, and as lines to print.

    Attributes:
        heading: What is measured.
        note: A sentence below the heading; may be empty.
        columns: Names of the measures.
        rows: Their numbers by the name of what was measured; absent where one could not be.
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


def write_report(
    path: Path,
    *,
    title: str,
    facts: Mapping[str, str],
    scores: Mapping[str, float],
    recordings: Sequence[Recording],
    tables: Sequence[Table] = (),
    curve_png: bytes | None = None,
) -> None:
    """Write the listening page to `path`, atomically.

    Args:
        path: An `.html` file.
        title: Heading of the page.
        facts: What to know about the model, by name.
        scores: Bits per sample by name; the first is the model, its bar stands out.
        recordings: Sounds, in the order of the page.
        tables: Other measures, between the bits and the sounds.
        curve_png: Picture of the learning curve.

    Raises:
        DataError: A recording holds a number that is not finite.
    """
    sections = [
        _section("Bits per sample", _bars(scores)) if scores else "",
        *(_section(table.heading, _table(table)) for table in tables),
        _section("Recordings", "".join(map(_recording, recordings))) if recordings else "",
        _section("Learning curve", _curve(curve_png)) if curve_png else "",
        _section("Facts", _facts(facts)) if facts else "",
    ]
    write_text(path, _PAGE.format(title=html.escape(title), body="\n".join(filter(None, sections))))


def wav_bytes(waveform: npt.NDArray[np.floating[Any]], sample_rate: int) -> bytes:
    """Return a waveform `(T,)` as a 16-bit mono WAV file; what is outside [-1, 1] is clipped."""
    samples = np.clip(np.round(np.asarray(waveform, dtype=np.float64) * 32768), -32768, 32767)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _section(heading: str, body: str) -> str:
    name = "-".join(re.findall("[a-z0-9]+", heading.lower()))
    title = html.escape(heading)
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{body}\n</section>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f'<td class="number">{_number(value)}</td>' for value in row)
        + "</tr>"
        for name, row in table.rows.items()
    )
    note = f'<p class="note">{html.escape(table.note)}</p>\n' if table.note else ""
    return (
        f'{note}<div class="wide"><table class="measures"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _bars(scores: Mapping[str, float]) -> str:
    """Return scores as a table whose rows carry a bar from zero."""
    longest = max([*scores.values(), 1e-9])
    rows = []
    for index, (name, bits) in enumerate(scores.items()):
        share = f"{100 * max(bits, 0.0) / longest:.2f}%"
        rows.append(
            f'<tr{" class=model" if index == 0 else ""}><th scope="row">'
            f"{html.escape(name.replace('_', ' '))}</th>"
            f'<td class="bar" aria-hidden="true"><span style="width:{share}"></span></td>'
            f'<td class="number">{bits:.3f}</td></tr>'
        )
    others = " Below the model are yardsticks that anyone can compute." if len(scores) > 1 else ""
    return (
        f'<p class="note">What each sample costs: less is better.{others}</p>\n'
        '<table class="scores"><thead><tr><th scope="col">model</th><td aria-hidden="true"></td>'
        f'<th scope="col">bits per sample</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _recording(recording: Recording) -> str:
    if not np.isfinite(recording.waveform).all():
        raise DataError(
            f"recording {printable(recording.name)!r} holds numbers that are not finite"
        )
    name, rate = html.escape(recording.name), recording.sample_rate
    sound = base64.b64encode(wav_bytes(recording.waveform, rate)).decode()
    picture = base64.b64encode(png(spectrogram(recording.waveform, rate, ""))).decode()
    note = f'<p class="note">{html.escape(recording.note)}</p>\n' if recording.note else ""
    length = f"{len(recording.waveform) / rate:.2f} s at {rate:,} Hz"
    return f"""<article>
<header><h3>{name}</h3><span class="note">{length}</span></header>
{note}<audio controls preload="metadata" aria-label="{name}" src="data:audio/wav;base64,{sound}">
</audio>
<img alt="Waveform and spectrogram of {name}" src="data:image/png;base64,{picture}">
</article>
"""


def _curve(curve_png: bytes) -> str:
    data = base64.b64encode(curve_png).decode()
    alt = "Bits per sample in training and validation over training steps"
    return f'<article><img alt="{alt}" src="data:image/png;base64,{data}"></article>'


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
media-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{
  --page: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5a6675; --line: #dfe3e8;
  --bar: #aab4c2; --model: #0072b2;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --page: #12161c; --card: #1c222b; --ink: #e8ecf1; --soft: #9eabba; --line: #313a46;
    --bar: #566273; --model: #56b4e9;
  }}
}}
* {{ box-sizing: border-box; }}
body {{
  margin: 0; padding: 2.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}}
main {{ max-width: 54rem; margin: 0 auto; }}
h1 {{ margin: 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }}
h2 {{ margin: 2.5rem 0 .75rem; font-size: 1.2rem; }}
h3 {{ margin: 0; font-size: 1rem; overflow-wrap: anywhere; }}
.note {{ margin: 0 0 .75rem; color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }}
article, table {{
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1rem; margin: 0 0 1rem;
}}
article header {{
  display: flex; flex-wrap: wrap; gap: 0 1rem;
  justify-content: space-between; align-items: baseline;
}}
audio {{ display: block; width: 100%; margin-bottom: .75rem; }}
img {{
  display: block; width: 100%; height: auto; padding: .5rem; border-radius: .5rem; background: #fff;
}}
table {{ width: 100%; border-spacing: 0; }}
th {{ text-align: left; font-weight: 500; vertical-align: top; }}
th, td {{ padding: .4rem .5rem; }}
.scores th {{ width: 13rem; overflow-wrap: anywhere; }}
.scores .bar {{ min-width: 6rem; }}
.bar span {{
  display: block; height: 1.1rem; min-width: 2px; border-radius: .25rem; background: var(--bar);
}}
.number {{ width: 1%; text-align: right; font-variant-numeric: tabular-nums; }}
.model .bar span {{ background: var(--model); }}
.model th, .model .number {{ font-weight: 700; color: var(--model); }}
.wide {{ overflow-x: auto; }}
.measures thead th {{ text-align: right; }}
.measures tbody th {{ white-space: nowrap; }}
.measures .number {{ width: auto; }}
.facts th {{ width: 34%; color: var(--soft); }}
.facts td {{ overflow-wrap: anywhere; }}
.facts tr + tr > * {{ border-top: 1px solid var(--line); }}
thead th {{ font-size: .8rem; font-weight: 400; color: var(--soft); white-space: nowrap; }}
@media (max-width: 32rem) {{
  body {{ padding-top: 1.25rem; }}
  .scores th {{ width: 5rem; }}
  .scores .bar {{ min-width: 3rem; }}
}}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
