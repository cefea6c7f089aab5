"""Write the part of `docs/models.md` that follows from the files of the shipped models.

    python -m docs.models.table

For every model in `wavenet/shipped`: a row per signal of its evaluation, which is
`docs/models/NAME/evaluation.json`, as `wavenet-evaluate json=true` prints it; then its description,
sample, command, attribution and pictures.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from docs.models.ship import PAGES, read_about
from wavenet.checkpoint import CONFIG, read_config
from wavenet.evaluation.metrics import mean_of_defined
from wavenet.evaluation.nll import MODEL
from wavenet.evaluation.synthesis import RESYNTHESIS
from wavenet.model_directory import SHIPPED

PAGE = PAGES.with_suffix(".md")
BEGIN, END = "<!-- written by docs/models/table.py -->\n", "<!-- end -->\n"
COLUMNS = {  # of the metrics: heading and decimals
    "pesq": ("PESQ ↑", 2),
    "stoi": ("STOI ↑", 3),
    "mel_db": ("mel dB ↓", 2),
    "mcd_db": ("MCD dB ↓", 2),
    "f0_rmse_cents": ("F0 cents ↓", 0),
}


def shipped_names() -> list[str]:
    """Return the names of the models in `wavenet/shipped`."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))


def written() -> str:
    """Return the part of the page that follows from files."""
    names = shipped_names()
    headings = ["model", "signal", "test bits", *(heading for heading, _ in COLUMNS.values())]
    headings += ["real-time factor", "size", "license"]
    lines = [headings, ["---"] * len(headings), *(row for name in names for row in rows(name))]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([BEGIN, table, *(section(name) for name in names), END])


def rows(name: str) -> Iterator[list[str]]:
    """Yield the rows of a model, its own signal first."""
    folder, path = SHIPPED / name, PAGES / name / "evaluation.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    bits = found.get("bits_per_sample", {}).get(MODEL)
    factor = found.get("real_time_factor")
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    own = [number(factor, 2), f"{size:.2f} MB", read_config(folder).training.license or "-"]
    metrics = found.get("mean_metrics", {})
    for signal in [RESYNTHESIS, *(other for other in metrics if other != RESYNTHESIS)]:
        first, means = signal == RESYNTHESIS, metrics.get(signal, {})
        figures = [number(means.get(key), decimals) for key, (_, decimals) in COLUMNS.items()]
        facts = own if first else [""] * len(own)
        yield [name if first else "", signal, number(bits, 3) if first else "", *figures, *facts]


def number(value: float | None, decimals: int) -> str:
    """Return a number of the table."""
    return "-" if value is None else f"{value:.{decimals}f}"


def voices(name: str, speakers: Sequence[str]) -> str:
    """Return a table of PESQ and STOI by speaker, empty without an evaluation or speakers.

    The first folder of a recording is its speaker.
    """
    path = PAGES / name / "evaluation.json"
    if not speakers or not path.exists():
        return ""
    clips = json.loads(path.read_text("utf-8"))["resyntheses"]
    signals = [signal for signal in clips[0]["metrics"] if signal != "quantized"]
    lines = [["PESQ ↑ / STOI ↑", *signals], ["---"] * (1 + len(signals))]
    for speaker in speakers:
        own = [clip["metrics"] for clip in clips if clip["source"].partition("/")[0] == speaker]
        cells = (
            [
                number(mean_of_defined(one[signal][key] for one in own), COLUMNS[key][1])
                for key in ("pesq", "stoi")
            ]
            for signal in signals
        )
        lines.append([speaker, *(" / ".join(cell) for cell in cells)])
    return "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def section(name: str) -> str:
    """Return what the page tells of a model below the table."""
    about, config = read_about(name), read_config(SHIPPED / name)
    training = config.training
    speaker = f" speaker={about.speaker}" if about.speaker else ""
    return f"""
## `{name}`

{about.description}
{voices(name, config.audio.speaker_names)}
```sh
wavenet-generate checkpoint={name}{speaker}    # its example; add input=FILE for another
```

{sounds(name)}
Trained in {training.duration};
the weights of step {training.steps:,} were best:

```sh
{about.command}
```

{about.attribution}
License of the weights: {about.license}; of the data: {about.data_license}.
[Config of the run](models/{name}/run.json).

![Waveform and spectrogram of the example as {name} draws it](models/{name}/spectrogram.png)

![Bits per sample over the steps of training](models/{name}/learning_curve.png)
"""


def sounds(name: str) -> str:
    """Return a link to each sound of a model, a player on the site."""
    texts = {
        "generated": f"Its example, as `{name}` draws it",
        "original": "The recording that the example is of",
        "griffin_lim": "Griffin-Lim from the same mel spectrogram, without a network",
    }
    found = [file for file in texts if (PAGES / name / f"{file}.flac").exists()]
    return "".join(f"[{texts[file]}](models/{name}/{file}.flac)\n\n" for file in found)


def updated(page: str) -> str:
    """Return the page with its written part renewed."""
    before, _, rest = page.partition(BEGIN)
    return before + written() + rest.partition(END)[2]


if __name__ == "__main__":
    Path(PAGE).write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
