"""Bits per mu-law class over training, with and without the linear predictor, at equal samples.

    python -m docs.models.learning_curves runs/curves          # six trainings, half an hour

trains the demo's vocoder at 40 mel bands, and the same blocks as a plain mu-law model, for each of
three seeds into a folder of its own, asks both the same question at the same steps
(`mu_law_bits.py`), and writes `docs/images/predictor_curves.png` and the table of its numbers. What
a folder holds already is not trained again.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure

from docs.models.mu_law_bits import bits_per_class
from docs.models.ship import ROOT, write_picture

STEPS = (125, 250, 500, 750, 1000)
SEEDS = (0, 1, 2)
PLAIN = (
    "model.output_distribution=categorical",
    "model.quantization_channels=256",
    "model.input_type=embedding",
    "model.predictor=null",
)
KINDS = {"linear predictor, order 16": (), "plain mu-law model": PLAIN}
COLORS = ("tab:blue", "tab:orange")
Curves = dict[str, dict[int, dict[int, float]]]  # bits by kind, seed and step


def train(run: Path, seed: int, overrides: tuple[str, ...]) -> None:
    """Train one model; keep it as a run of its own, `run/steps/STEP`, at each of `STEPS`."""
    options = [f"trainer.{what}_every_n_steps={STEPS[0]}" for what in ("val", "save")]
    options += ["audio.mel.n_mels=40", "trainer.preview_seconds=0", "trainer.val_seconds=5"]
    options += ["evaluation.num_resynthesis=0", "evaluation.sample_seconds=0"]
    command = [sys.executable, str(ROOT / "recipes" / "train.py"), "recipe=demo", f"seed={seed}"]
    process = subprocess.Popen(
        [*command, f"run_dir={run}", *options, *overrides], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        words = line.split()
        if words[:2] == ["saved", "step"] and int(words[2].replace(",", "")) in STEPS:
            step = int(words[2].replace(",", ""))
            shutil.copytree(run / "model", run / "steps" / str(step) / "model")
            shutil.copy(run / "run.json", run / "steps" / str(step))
    if process.wait() != 0:
        sys.exit(f"{run}: the training failed")


def measure(folder: Path) -> Curves:
    """Return the bits of all models, trained and measured where they are not yet."""
    known = folder / "bits.json"
    found = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
    curves: Curves = {}
    for seed in SEEDS:
        for number, (kind, overrides) in enumerate(KINDS.items()):
            run = folder / f"{number}-{seed}"
            if not (run / "steps" / str(STEPS[-1])).exists():
                shutil.rmtree(run, ignore_errors=True)
                train(run, seed, overrides)
            for step in STEPS:
                name = f"{run.name}-{step}"
                if name not in found:
                    found[name] = bits_per_class(run / "steps" / str(step) / "model")
                    known.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                curves.setdefault(kind, {}).setdefault(seed, {})[step] = found[name]
    return curves


def draw(curves: Curves) -> Figure:
    """Return the picture of the curves, one line per seed."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for color, (kind, by_seed) in zip(COLORS, curves.items(), strict=True):
        for seed, points in by_seed.items():
            label = kind if seed == SEEDS[0] else None
            axes.plot(list(points), list(points.values()), ".-", color=color, lw=1, label=label)
    axes.set_xlabel("steps of 8,000 samples")
    axes.set_ylabel("bits per mu-law class, held-out clips")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    return figure


def table(curves: Curves) -> str:
    """Return the numbers as a Markdown table."""
    lines = [f"| model, seed | {' | '.join(f'{step:,}' for step in STEPS)} |"]
    lines.append("| --- |" + " --- |" * len(STEPS))
    for kind, by_seed in curves.items():
        for seed, points in by_seed.items():
            numbers = " | ".join(f"{bits:.3f}" for bits in points.values())
            lines.append(f"| {kind}, {seed} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    measured = measure(Path(sys.argv[1]))
    write_picture(draw(measured), ROOT / "docs" / "images" / "predictor_curves.png")
    print(table(measured))
