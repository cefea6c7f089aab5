"""Generate audio from a checkpoint: `wavenet-generate checkpoint=RUN/model seconds=5`."""

from pathlib import Path

from wavenet.cli.command import command
from wavenet.cli.compose import Composed
from wavenet.generation.generate import write_recordings
from wavenet.generation.generate_folder import speak_folder
from wavenet.generation.inputs import input_folder
from wavenet.generation.options import GenerateCommand


def generate(options: GenerateCommand, composed: Composed) -> None:
    """Write the recordings, and print how fast they came."""
    folder = input_folder(options)
    if folder is not None:
        outcome = speak_folder(options, folder)
        print(outcome.text())
        outcome.check()
        return
    written, samples, rate, seconds = write_recordings(options)
    print(
        f"{samples / seconds:,.0f} samples a second, {samples / rate / seconds:.2f} times real time"
    )
    for path in written:
        print(Path(path))


def main() -> None:
    """Run `wavenet-generate`."""
    command("generate", __file__, GenerateCommand, generate)


if __name__ == "__main__":
    main()
