"""A data set's prepared folder, prepared now where that is not done."""

import logging
from pathlib import Path

from wavenet.data.corpora import corpus_of
from wavenet.data.options import DataOptions
from wavenet.data.preparation.prepare import Summary, prepare
from wavenet.data.preparation.sharded import prepare_share
from wavenet.data.preparation.summary import Share
from wavenet.utils.errors import ConfigError, printable
from wavenet.utils.sharding import Shard

log = logging.getLogger("wavenet")


def ensure_prepared(options: DataOptions) -> Path:
    """Prepare the recordings unless it is done; return the folder of clips."""
    folder = options.folder
    if options.root is None:
        return folder  # reading its manifest says what is wrong, if anything is
    summary = fetched_and_prepared(options)
    log.info("%s", summary.line() if summary.already_prepared else summary.table())
    return folder


def fetched_and_prepared(options: DataOptions) -> Summary:
    """Fetch the recordings if that is asked for and not done, prepare them, and say how it went.

    Raises:
        ConfigError: The corpus cannot be fetched by a program.
    """
    if _is_to_fetch(options):
        _fetch(options)
    return prepare(options.source, options.folder, options.preparation)


def prepared_share(options: DataOptions, shard: Shard) -> Share | Summary:
    """Prepare one shard of the recordings, and say how it went; see `prepare_share`.

    Raises:
        ConfigError: The corpus cannot be fetched by a program, or not by this shard.
    """
    if _is_to_fetch(options):
        if shard.number > 1:
            raise ConfigError(
                f"data.download: {printable(options.source)} is not there, and only the first "
                f"shard fetches it: run shard=1/{shard.count} alone, then the others"
            )
        _fetch(options)
    return prepare_share(options.source, options.folder, options.preparation, shard)


def _is_to_fetch(options: DataOptions) -> bool:
    root = options.source
    return options.download and not (root.exists() and any(root.iterdir()))


def _fetch(options: DataOptions) -> None:
    corpus, root = corpus_of(options.corpus), options.source
    if corpus.fetch is None:
        raise ConfigError(
            f"data.download: {corpus.name} cannot be fetched by a program; {corpus.about}"
        )
    log.info("fetching %s into %s", corpus.name, printable(root))
    corpus.fetch(root)
