"""Import another project's WaveNet: `wavenet-import source=FILE config=FILE output=models/NAME`."""

import dataclasses
import shlex
from pathlib import Path

import wavenet
from wavenet.cli.commands import ImportCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_process
from wavenet.interop import load
from wavenet.model_card import generate_arguments, model_facts
from wavenet.utils.errors import printable
from wavenet.utils.files import check_replaceable

UNKNOWN = ("Data", "Training audio")  # which other projects' checkpoints do not tell


def import_model(options: ImportCommand, composed: Composed) -> None:
    """Write a model directory; print what was found, notes, and the command to generate."""
    output = Path(options.output)
    check_replaceable(output, overwrite=options.overwrite)
    imported = load(
        options.source,
        kind=options.kind,
        config=options.config,
        sample_rate=options.sample_rate,
        mean=options.mean,
        std=options.std,
    )
    training = dataclasses.replace(
        imported.training, license=options.license, data_license=options.data_license
    )
    wavenet.save(imported.model, output, imported.audio, training)

    for name, value in model_facts(imported.model, imported.audio, training).items():
        if name not in UNKNOWN and (name, value) != ("Steps", "0"):
            print(f"{name:20}  {printable(value)}")
    for note in imported.notes:
        print(f"note: {note}")
    folder, arguments = shlex.quote(str(output)), generate_arguments(imported.audio)
    print(f"wavenet-generate {folder} {arguments}")


if __name__ == "__main__":
    run_process("import", import_model)
