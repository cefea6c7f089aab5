"""Which recordings train, validate and test: by recording, and the same on every machine."""

import dataclasses
from collections.abc import Iterable, Sequence

from wavenet.data.manifest import Clip, Split
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.sources import Source
from wavenet.utils.errors import DataError


def assign_splits(sources: Iterable[Source], options: PrepareOptions) -> dict[str, Split]:
    """Return the split of each of `sources` by name.

    They are ordered by the SHA-256 of their names; the first test, the next validate, and the rest
    trains. A fraction above 0 takes at least one.

    Raises:
        DataError: No recording is left to train on.
    """
    names = [source.name for source in sorted(sources, key=lambda source: source.digest)]
    test = _share(options.test_fraction, len(names))
    valid = _share(options.valid_fraction, len(names))
    if len(names) <= test + valid:
        raise DataError(
            f"{len(names)} recordings are too few for {test} to test, {valid} to validate and at "
            "least 1 to train: add recordings, cut one into several files, or set "
            "data.test_fraction=0 or data.valid_fraction=0"
        )
    splits: dict[str, Split] = dict.fromkeys(names, "train")
    splits.update(dict.fromkeys(names[:test], "test"))
    splits.update(dict.fromkeys(names[test : test + valid], "valid"))
    return splits


def split_clips(clips: Iterable[Clip], splits: dict[str, Split]) -> Sequence[Clip]:
    """Return `clips` with the splits of their sources."""
    return [dataclasses.replace(clip, split=splits[clip.source]) for clip in clips]


def _share(fraction: float, count: int) -> int:
    return max(1, round(fraction * count)) if fraction > 0 else 0
