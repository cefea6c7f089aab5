"""Upload a model to the Hugging Face hub: `wavenet-push RUN/model repo=owner/name`."""

import logging

from wavenet.checkpoint import load
from wavenet.cli.commands import PushCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_process
from wavenet.hub import push as push_to_hub
from wavenet.model_card import generate_arguments
from wavenet.model_directory import find_local
from wavenet.utils.errors import CheckpointError, printable

log = logging.getLogger("wavenet")


def push(options: PushCommand, composed: Composed) -> None:
    """Upload a model directory, and print where it is and how to load it."""
    folder = find_local(options.checkpoint)
    if folder is None:  # a model on the hub, or a folder that is missing: none is uploaded unasked
        raise CheckpointError(
            f"there is no model directory {printable(options.checkpoint)}, and a model that is on "
            "the hub already is not uploaded again: give a model directory, or the name of a model "
            "that ships"
        )
    loaded = load(folder)  # verifies its files
    if loaded.training.license is None and not options.private:
        log.warning("warning: the model states no license, so nobody may use it: see license=")
    print(push_to_hub(folder, options.repo, private=options.private))
    print(f"wavenet-generate {options.repo} {generate_arguments(loaded.audio)}")


if __name__ == "__main__":
    run_process("push", push)
