"""Prepare a folder of clips from recordings: `wavenet-prepare data.root=FOLDER`."""

from wavenet.cli.commands import PrepareCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import run_command
from wavenet.data.manifest import read_manifest
from wavenet.data.preparation.prepare import prepare_data, prepare_data_shard
from wavenet.data.statistics import with_mel_statistics
from wavenet.utils.sharding import Shard


def prepare(options: PrepareCommand, composed: Composed) -> None:
    """Prepare the recordings, and print a summary."""
    if options.shard is not None:
        print(prepare_data_shard(options.data, Shard.from_text(options.shard)).table())
        return
    folder, summary = prepare_data(options.data)
    print(summary.table())
    print(f"prepared folder: {folder}")
    mel = options.audio.mel
    if mel is not None and options.data.normalize_mel and not mel.clamp:
        with_mel_statistics(folder, read_manifest(folder, "train"), mel)  # cached for training


if __name__ == "__main__":
    run_command("prepare", prepare)
