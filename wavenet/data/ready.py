"""A data set's prepared folder, prepared now where that is not done."""

import logging
from pathlib import Path

from wavenet.data.corpora import corpus_of
from wavenet.data.options import DataOptions
from wavenet.data.prepare import Summary, prepare
from wavenet.errors import ConfigError, printable

log = logging.getLogger("wavenet")


def ensure_prepared(options: DataOptions) -> Path:
    """Prepare the recordings unless it is done; return the folder of clips."""
    folder = options.folder
    if options.root is None:
        return folder  # reading its manifest says what is wrong, if anything is
    log.info("%s", fetched_and_prepared(options).table())
    return folder


def fetched_and_prepared(options: DataOptions) -> Summary:
    """Fetch the recordings if that is asked for and not done, prepare them, and say how it went.

    Raises:
        ConfigError: The corpus cannot be fetched by a program.
    """
    corpus, root = corpus_of(options.corpus), options.source
    if options.download and not (root.exists() and any(root.iterdir())):
        if corpus.fetch is None:
            raise ConfigError(
                f"data.download: {corpus.name} cannot be fetched by a program; {corpus.about}"
            )
        log.info("fetching %s into %s", corpus.name, printable(root))
        corpus.fetch(root)
    return prepare(root, options.folder, options.preparation)
