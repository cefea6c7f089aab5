"""Look at a model's layers: `wavenet-inspect model=medium`."""

from pathlib import Path

from wavenet.cli.commands import InspectCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_command
from wavenet.model_summary import layer_table
from wavenet.utils.errors import require


def inspect(options: InspectCommand, composed: Composed) -> None:
    """Print the layer table, and draw the dilation tree if asked."""
    from wavenet.checkpoint import read_config

    model, rate = options.model, options.audio.sample_rate
    if options.checkpoint is not None:
        config = read_config(Path(options.checkpoint))
        model, rate = config.model, config.audio.sample_rate
    print(layer_table(model, rate))
    if options.output is not None:
        require("matplotlib", "train")
        from wavenet.evaluation import plots as pictures

        pictures.save(pictures.dilation_tree(model), Path(options.output))
        print(f"dilation tree: {options.output}")


if __name__ == "__main__":
    run_command("inspect", inspect)
