"""Show a model's layers: `wavenet-inspect RUN/model` or `wavenet-inspect model=medium`.

Prints receptive field, parameters and operations of each layer; `output=tree.png` also draws which
samples each layer depends on. A checkpoint is verified first, its weights too.
"""

from pathlib import Path

from wavenet.checkpoint import verify
from wavenet.cli.commands import InspectCommand
from wavenet.cli.compose import Composed, refuse_beside_checkpoint
from wavenet.cli.main import run_process
from wavenet.evaluation import plots
from wavenet.model_summary import layer_table
from wavenet.pretrained import find_model
from wavenet.utils.errors import printable


def inspect(options: InspectCommand, composed: Composed) -> None:
    """Print the layer table, and draw the dilation tree if `output` is given."""
    model, audio = options.model, options.audio
    refuse_beside_checkpoint(options.checkpoint, composed, ("model", "audio"))
    if options.checkpoint is not None:
        stored = verify(find_model(options.checkpoint))
        model, audio = stored.model, stored.audio
    print(layer_table(model, audio.sample_rate))
    if options.checkpoint is not None:
        print("checksums of config and weights: verified")
    if options.output is not None:
        plots.save(plots.dilation_tree(model), Path(options.output))
        print(f"dilation tree: {printable(options.output)}")


if __name__ == "__main__":
    run_process("inspect", inspect)
