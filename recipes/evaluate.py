"""What a model is worth: `wavenet-evaluate checkpoint=RUN/model data.root=FOLDER`."""

from pathlib import Path

from wavenet.cli.command import command
from wavenet.cli.compose import Composed
from wavenet.cli.console import progress_bar
from wavenet.cli.options import EvaluateCommand


def evaluate(options: EvaluateCommand, composed: Composed) -> None:
    """Print bits per sample, and distances of copies, beside yardsticks; write a page to hear."""
    from wavenet.cli.evaluation import evaluated_clips, page_of, with_temperature_of_run
    from wavenet.evaluation import listening
    from wavenet.evaluation.report import write_report
    from wavenet.evaluation.scores import first_seconds, samples_measured

    options = with_temperature_of_run(options, composed.said)
    loaded, folder, clips = evaluated_clips(options)
    measured = first_seconds(clips, options.report.evaluate_seconds)
    with progress_bar(samples_measured(loaded.model.config, measured), "sample") as advance:
        found = listening.evaluate(loaded, folder, clips, options.report, options.seed, advance)
    print(found.text())
    page = page_of(options)
    if page is not None:
        write_report(
            page,
            title=f"WaveNet: {Path(options.checkpoint).resolve().parent.name}",
            facts=found.facts,
            scores=found.bits,
            tables=found.tables,
            recordings=found.recordings,
        )
        print(f"open {page} to listen and look")


def main() -> None:
    """Run `wavenet-evaluate`."""
    command("evaluate", __file__, EvaluateCommand, evaluate, extra="train")


if __name__ == "__main__":
    main()
