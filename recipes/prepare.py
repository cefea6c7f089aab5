"""Prepare a folder of clips from recordings: `wavenet-prepare data.root=FOLDER`."""

from wavenet.cli.commands import PrepareCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_process
from wavenet.data.manifest import read_manifest
from wavenet.data.preparation.prepare import plan_data, prepare_clips, prepare_shard
from wavenet.data.statistics import with_mel_statistics
from wavenet.utils.errors import printable
from wavenet.utils.sharding import Shard


def prepare(options: PrepareCommand, composed: Composed) -> None:
    """Prepare the recordings, and print a summary."""
    # List the recordings, after downloading them if that is asked for. They and the options
    # determine the prepared folder; what cannot work is refused here.
    shard = None if options.shard is None else Shard.from_text(options.shard)
    plan = plan_data(options.data, options.audio, shard)

    # Several jobs can each check and convert one shard; a last job without a shard publishes.
    if shard is not None:
        print(prepare_shard(plan, shard).table())
        return

    # Check every recording, then convert all, split them and publish the folder. If the folder
    # exists, its summary is returned.
    summary = prepare_clips(plan)
    print(summary.table())
    print(f"prepared folder: {printable(plan.output)}")

    # Compute the statistics of the training clips, which training finds in the folder.
    mel = options.audio.mel
    if mel is not None and options.data.normalize_mel and not mel.clamp:
        with_mel_statistics(plan.output, read_manifest(plan.output, "train"), mel)


if __name__ == "__main__":
    run_process("prepare", prepare)
