"""What a model is worth: `wavenet-evaluate checkpoint=RUN/model data.root=FOLDER`."""

import json
import logging
from pathlib import Path

from wavenet.cli.command import command
from wavenet.cli.compose import Composed
from wavenet.evaluation.options import EvaluateCommand

log = logging.getLogger("wavenet")


def evaluate(options: EvaluateCommand, composed: Composed) -> None:
    """Print bits per sample, and distances of copies, beside yardsticks; write a page to hear."""
    from wavenet.cli import evaluation
    from wavenet.evaluation.report import write_report

    told = print if not options.json else log.info
    options = evaluation.with_temperature_of_run(options, composed.said)
    subject = evaluation.subject_of(options)
    if options.part is not None:
        path = evaluation.write_part(options, subject, options.part)
        told(f"shard {options.part}: {path}")
        if options.json:
            print(path.read_text(encoding="utf-8"), end="")
        return
    found = evaluation.evaluation_of(options, subject)
    told(found.text())
    page = evaluation.page_of(options)
    if page is not None:
        write_report(
            page,
            title=f"WaveNet: {Path(options.checkpoint).resolve().parent.name}",
            facts=found.facts,
            scores=found.bits,
            tables=found.tables,
            recordings=found.recordings,
        )
        told(f"open {page} to listen and look")
    if options.json:
        print(json.dumps(evaluation.plain(subject, found), indent=2))


def main() -> None:
    """Run `wavenet-evaluate`."""
    command("evaluate", __file__, EvaluateCommand, evaluate, extra="train")


if __name__ == "__main__":
    main()
