"""A share of a preparation: several jobs, on several machines, fill one work folder side by side.

A shard takes every n-th recording in the order of names, and leaves records of what it did.
`wavenet.data.preparation.prepare.prepare` takes them up, does what is left, and publishes.
"""

import os
from pathlib import Path

from wavenet.data.corpora import corpus_of
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.pipeline import check_all, convert_all, read_records
from wavenet.data.preparation.prepare import already_prepared, check_places
from wavenet.data.preparation.splits import assign_splits
from wavenet.data.preparation.summary import Share, Summary, named
from wavenet.data.preparation.work_dir import finished, key_of, work_folder
from wavenet.utils.sharding import Shard


def prepare_share(
    root: Path, output: Path, options: PrepareOptions, shard: Shard, *, quiet: bool = False
) -> Share | Summary:
    """Check and convert one shard of the recordings; once all are done, `prepare` is quick.

    Shards can run at once, on several machines too; which recordings are whose depends on their
    names alone. Nothing of `output` changes.

    Args:
        root: Folder of recordings, as for `prepare`.
        output: Folder that `prepare` is to make.
        options: What may be done to the recordings, the same for all shards.
        shard: Which recordings, of all that are found.
        quiet: Show no progress bar.

    Returns:
        What the job did; the summary of `output` where that is prepared already.

    Raises:
        ConfigError: `output` is something else's folder, or it and `root` lie inside each other.
        DataError: Recordings of the shard are bad: all of them are listed, none is converted.
        EnvironmentFault: The disk refuses, or another process prepares this shard, or all.
    """
    check_places(root, output)
    found = corpus_of(options.corpus).find(root)
    summary = already_prepared(output, key_of(found.sources, options))
    if summary is not None:
        return summary
    assign_splits(found.sources, options)  # what cannot be split fails here, before the work
    mine = shard.of(found.sources)
    with work_folder(Path(os.path.realpath(output)), shard) as work:
        records = read_records(work, mine, options, quiet)
        todo = [source for source in mine if source.name not in records]
        good, bad = check_all(todo, options, quiet)
        convert_all(todo, good, work, options, quiet)
        return Share(
            shard=str(shard),
            files=len(found.sources),
            mine=len(mine),
            before=len(records),
            left_out=named(bad),
            finished=len(finished(work, found.sources)),
        )
