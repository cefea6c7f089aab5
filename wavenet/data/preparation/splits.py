"""Which split each recording belongs to: drawn from its name, or given by a folder or a list.

A list is a text file with a line `SPLIT NAME` for a recording: `train`, `valid` or `test`, and its
path below the root. Where it has no line for training, all that is not listed trains.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from wavenet.data.manifest import SPLITS, Split
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.sources import Source, SourceListing
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import DataError, listed, printable

MAX_LIST_BYTES = 1 << 30
MAX_HINTED = 10_000  # recordings among which the nearest name is searched


def with_splits(
    found: SourceListing, root: Path, options: PrepareOptions, split_list: Path | None
) -> SourceListing:
    """Return recordings with the splits that their folders or a list give, if one does.

    Raises:
        DataError: A recording has no split, or more than one; or the list names another.
    """
    if options.split_from_folder:
        splits = _splits_of_folders(found, root)
    elif split_list is not None:
        splits = _splits_of_list(found, root, split_list)
    else:
        return found
    sources = (dataclasses.replace(one, split=splits[one.name]) for one in found.sources)
    return dataclasses.replace(found, sources=tuple(sources))


def assign_splits(sources: Iterable[Source], options: PrepareOptions) -> dict[str, Split]:
    """Return the split of each of `sources` by name.

    Without given splits, they are ordered by the SHA-256 of their names; the first test, the next
    validate, and the rest trains. A fraction above 0 takes at least one.

    Raises:
        DataError: No recording is left to train on, or a given split is empty.
    """
    ordered = sorted(sources, key=lambda source: source.digest)
    given = {source.name: source.split for source in ordered if source.split is not None}
    if given:
        _check_given(given, options)
        return given
    names = [source.name for source in ordered]
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


def _check_given(splits: Mapping[str, Split], options: PrepareOptions) -> None:
    """Raise if a split is empty that is not turned off by its fraction."""
    fractions = {"train": 1.0, "valid": options.valid_fraction, "test": options.test_fraction}
    for split in SPLITS:
        if fractions[split] and split not in splits.values():
            place = "the folder" if options.split_from_folder else "data.split_list for"
            without = "" if split == "train" else f", or set data.{split}_fraction=0 to go without"
            raise DataError(
                f"the split {split} has no usable recording: put some into {place} {split}{without}"
            )


def _splits_of_folders(found: SourceListing, root: Path) -> dict[str, Split]:
    splits, outside = {}, []
    for source in found.sources:
        first = PurePosixPath(source.name).parts[0]
        if first in SPLITS and first != source.name:
            splits[source.name] = first
        else:
            outside.append(printable(source.name))
    if outside:
        raise DataError(
            f"data.split_from_folder=true, but {len(outside)} recordings below {printable(root)} "
            f"are in none of the folders {', '.join(SPLITS)}: move them, or use data.split_list"
            f"{listed(outside)}"
        )
    return splits


def _splits_of_list(found: SourceListing, root: Path, path: Path) -> dict[str, Split]:
    names, place = {source.name for source in found.sources}, f"data.split_list={printable(path)}"
    lines: dict[str, tuple[Split, int]] = {}
    problems = []
    for number, line in enumerate(_read_lines(path, place), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        word, _, rest = text.partition(" ")
        name = PurePosixPath(rest.strip()).as_posix()
        if word not in SPLITS or not rest.strip():
            known = f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
            problems.append(f"line {number}: {printable(text, 80)!r} is not {known} and a name")
        elif name not in names:
            hint = nearest(name, names) if len(names) < MAX_HINTED else ""
            problems.append(f"line {number}: {printable(name)} is not below the root{hint}")
        elif name in lines:
            before, first = lines[name]
            problems.append(
                f"line {number}: {printable(name)} is in {word}, and in {before} (line {first})"
            )
        else:
            lines[name] = word, number
    splits: dict[str, Split] = {name: split for name, (split, _) in lines.items()}
    missing = sorted(names - splits.keys())
    if missing and "train" in splits.values() and not problems:
        problems = [f"{printable(name)} is not listed" for name in missing]
        problems[0] += ": without lines of train, all that is not listed trains"
    if problems:
        raise DataError(f"{place} does not fit {printable(root)}:{listed(problems)}")
    return {**dict.fromkeys(missing, "train"), **splits}


def _read_lines(path: Path, place: str) -> list[str]:
    try:
        if not path.exists():
            raise DataError(f"{place} does not exist: give a file with lines 'valid FOLDER/a.wav'")
        if not path.is_file() or path.stat().st_size > MAX_LIST_BYTES:
            raise DataError(f"{place} is not a text file: give lines such as 'valid FOLDER/a.wav'")
        text = path.read_text("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror}") from error
    return text.replace("\t", " ").splitlines()


def _share(fraction: float, count: int) -> int:
    return max(1, round(fraction * count)) if fraction > 0 else 0
