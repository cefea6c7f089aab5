"""Upload a model to the Hugging Face hub: `wavenet-push checkpoint=RUN/model repo=owner/name`."""

import logging
from pathlib import Path

from wavenet.checkpoint import load
from wavenet.cli.commands import PushCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_command
from wavenet.hub import push as push_to_hub
from wavenet.model_card import generate_arguments

log = logging.getLogger("wavenet")


def push(options: PushCommand, composed: Composed) -> None:
    """Upload a model directory, and print where it is and how to load it."""
    folder = Path(options.checkpoint)
    loaded = load(folder)  # verifies its files
    if loaded.training.license is None and not options.private:
        log.warning("warning: the model states no license, so nobody may use it: see license=")
    print(push_to_hub(folder, options.repo, private=options.private))
    print(f"wavenet-generate {options.repo} {generate_arguments(loaded.audio)}")


if __name__ == "__main__":
    run_command("push", push)
