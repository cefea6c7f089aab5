"""What a finished run leaves to hear and look at: scores, recordings, pictures, one report."""

import logging
from pathlib import Path

from wavenet import checkpoint
from wavenet.data.audio import WavWriter
from wavenet.data.manifest import read_manifest
from wavenet.evaluation import plots as pictures
from wavenet.evaluation.evaluate import Evaluator
from wavenet.evaluation.held_out import held_out_split
from wavenet.evaluation.nll import MODEL
from wavenet.evaluation.report import resynthesis_tables, write_report
from wavenet.evaluation.synthesis import Recording
from wavenet.training.options import RunConfig
from wavenet.training.validation import History

log = logging.getLogger("wavenet")


def finish(run: Path, config: RunConfig, history: History) -> None:
    """Evaluate, generate and report from `run/model`, the best model of a run.

    Args:
        run: The run's folder.
        config: What the run was.
        history: Loss curve and validations.
    """
    loaded = checkpoint.load(run / "model")
    folder = config.data.folder
    clips = held_out_split(read_manifest(folder))
    log.info("evaluating")
    found = Evaluator(loaded, folder, clips, config.evaluation, config.seed).evaluate()
    log.info("%s", found.text())
    for recording in found.recordings:
        _write(run / "samples", recording)
    curve = pictures.learning_curve(
        [step for step, _ in history.train],
        [value for _, value in history.train],
        [step for step, _ in history.valid],
        [value for _, value in history.valid],
        {name: value for name, value in found.bits_per_sample.items() if name != MODEL},
    )
    pictures.save(curve, run / "learning_curve.png")
    write_report(
        run / "report.html",
        title=f"WaveNet: {config.name}",
        facts={**found.facts, "Seed": str(config.seed)},
        bits_per_sample=found.bits_per_sample,
        tables=resynthesis_tables(found.resyntheses),
        recordings=found.recordings,
        curve_png=(run / "learning_curve.png").read_bytes(),
    )
    log.info("open %s to listen and look", run / "report.html")


def _write(folder: Path, recording: Recording) -> None:
    folder.mkdir(exist_ok=True)
    with WavWriter(folder / f"{recording.name}.wav", recording.sample_rate) as file:
        file.write(recording.waveform)
    figure = pictures.spectrogram(recording.waveform, recording.sample_rate, recording.name)
    pictures.save(figure, folder / f"{recording.name}.png")
