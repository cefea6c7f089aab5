"""The report of a finished run: scores, audio, plots, one HTML page."""

import logging
from pathlib import Path

from wavenet import checkpoint
from wavenet.data.audio import WavWriter
from wavenet.data.manifest import read_manifest
from wavenet.evaluation import plots
from wavenet.evaluation.evaluate import Evaluator
from wavenet.evaluation.held_out import held_out_split
from wavenet.evaluation.nll import MODEL
from wavenet.evaluation.report import resynthesis_tables, write_report
from wavenet.evaluation.synthesis import Recording
from wavenet.training.options import RunConfig
from wavenet.training.validation import History

log = logging.getLogger("wavenet")


def write_final_report(run: Path, config: RunConfig, history: History) -> None:
    """Evaluate `run/model`, the best model of a run, and write `run/report.html`.

    Args:
        run: The run's folder.
        config: Of the run.
        history: Loss curve and validations.
    """
    loaded = checkpoint.load(run / "model")
    folder = config.data.folder
    clips = held_out_split(read_manifest(folder))
    log.info("evaluating")
    results = Evaluator(loaded, folder, clips, config.evaluation, config.seed).evaluate()
    log.info("%s", results.text())
    for recording in results.recordings:
        _write_recording(run / "samples", recording)
    curve = plots.learning_curve(
        [step for step, _ in history.train],
        [value for _, value in history.train],
        [step for step, _ in history.val],
        [value for _, value in history.val],
        {name: value for name, value in results.bits_per_sample.items() if name != MODEL},
    )
    plots.save(curve, run / "learning_curve.png")
    write_report(
        run / "report.html",
        title=f"WaveNet: {config.name}",
        facts={**results.facts, "Seed": str(config.seed)},
        bits_per_sample=results.bits_per_sample,
        tables=resynthesis_tables(results.resyntheses),
        recordings=results.recordings,
        curve_png=(run / "learning_curve.png").read_bytes(),
    )
    log.info("open %s to listen and look", run / "report.html")


def _write_recording(folder: Path, recording: Recording) -> None:
    folder.mkdir(exist_ok=True)
    with WavWriter(folder / f"{recording.name}.wav", recording.sample_rate) as file:
        file.write(recording.waveform)
    figure = plots.spectrogram(recording.waveform, recording.sample_rate, recording.name)
    plots.save(figure, folder / f"{recording.name}.png")
