"""A folder of recordings to a prepared folder: all of them checked first, then all converted.

The output holds `audio/`, `notes/` where there are scores, `manifest.jsonl` and `prepare.json`. It
is built in a work folder beside it and takes its name in one rename; interrupted, the next run
takes up what is finished.
"""

import dataclasses
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from wavenet.data.audio import WAV_HEADER
from wavenet.data.conversion import AUDIO, NOTES, convert
from wavenet.data.corpora import corpus_of
from wavenet.data.index import INDEX
from wavenet.data.inspection import Inspection, inspect
from wavenet.data.manifest import MANIFEST, Clip, read_manifest, write_manifest
from wavenet.data.options import PrepareOptions
from wavenet.data.sources import Found, Source
from wavenet.data.splits import assign_splits, split_clips
from wavenet.data.summary import Summary, summarize
from wavenet.data.work import (
    FORMAT,
    Record,
    discard,
    keep_only,
    key_of,
    read_records,
    work_folder,
    write_record,
)
from wavenet.errors import ConfigError, DataError, WavenetError, printable, require
from wavenet.files import atomic_directory, write_text
from wavenet.plain import from_dict, to_dict

__all__ = ["PrepareOptions", "Summary", "prepare"]

log = logging.getLogger("wavenet")
PREPARED = "prepare.json"
MOST_FILES = 12  # named in a message

Item = TypeVar("Item")
Result = TypeVar("Result")


def prepare(root: Path, output: Path, options: PrepareOptions, *, quiet: bool = False) -> Summary:
    """Check every recording below `root`, convert it, and put the clips and a manifest at `output`.

    A second call with the same recordings and options returns at once.

    Args:
        root: Folder of recordings, nested as it likes.
        output: Folder to make; one that `prepare` made before is replaced when anything changed.
        options: What may be done to the recordings.
        quiet: Show no progress bar.

    Raises:
        ConfigError: `output` is something else's folder, or it and `root` lie inside each other.
        DataError: Recordings are bad: all of them are listed, and nothing is written.
        EnvironmentFault: The disk refuses, or another process prepares the same output.
    """
    _check_places(root, output)
    found = corpus_of(options.corpus).find(root)
    key = key_of(found.sources, options)
    summary = _already_prepared(output, key)
    if summary is not None:
        return summary
    if _about(output) is not None:
        log.warning(
            "warning: %s holds clips of other recordings or options: they are replaced; "
            "data.prepared=FOLDER puts these elsewhere",
            printable(output),
        )
    with work_folder(Path(os.path.realpath(output))) as work:
        records = read_records(work, found.sources, options)
        todo = [source for source in found.sources if source.name not in records]
        good, bad = _check(todo, options, quiet)
        names = good.keys() | records.keys()
        taken = [source for source in found.sources if source.name in names]
        if not taken:
            raise DataError(_bad_files(bad, "no recording is left"))
        assign_splits(taken, options)  # what cannot be split fails here, before the work

        def finish(source: Source) -> Record:
            converted = convert(source, good[source.name], work, options)
            record = Record(key_of([source], options), good[source.name], converted)
            write_record(work, source, record)
            return record

        todo = [source for source in taken if source.name in good]
        fresh = _each(finish, todo, "preparing", options.jobs, quiet)
        records |= {record.inspection.name: record for record in fresh}
        done = [records[source.name] for source in taken]
        clips = _split(found, done, options)
        summary = summarize(found, done, clips, bad, options.sample_rate)
        _publish(work, output, clips, {"key": key, "options": to_dict(options)}, summary)
    return summary


def _check(
    sources: Sequence[Source], options: PrepareOptions, quiet: bool
) -> tuple[dict[str, Inspection], list[Inspection]]:
    """Return the good recordings by name, and the bad ones where they may be left out."""
    inspections = list(
        _each(lambda source: inspect(source, options), sources, "checking", options.jobs, quiet)
    )
    bad = [inspection for inspection in inspections if inspection.problems]
    if bad and not options.skip_bad:
        raise DataError(_bad_files(bad, "nothing was prepared"))
    return {entry.name: entry for entry in inspections if not entry.problems}, bad


def _split(found: Found, records: Sequence[Record], options: PrepareOptions) -> Sequence[Clip]:
    """Return the clips of `records`, with their splits."""
    clips = [clip for record in records for clip in record.converted.clips]
    used = {clip.source for clip in clips}
    if not used:
        raise DataError(
            f"{len(records)} recordings gave no clip: after trimming and splitting no piece is as "
            f"long as {options.min_seconds:g} s; raise data.trim_db and data.split_db, or lower "
            "data.min_seconds"
        )
    return split_clips(clips, assign_splits((s for s in found.sources if s.name in used), options))


def _publish(
    work: Path, output: Path, clips: Sequence[Clip], about: dict[str, Any], summary: Summary
) -> None:
    """Give what lies in the work folder the name `output`, and remove the rest."""
    keep_only(work, clips)
    write_manifest(work / MANIFEST, clips)
    about["options"].pop("jobs")
    text = json.dumps({"format": FORMAT, **about, "summary": to_dict(summary)}, indent=2)
    write_text(work / PREPARED, text + "\n")
    with atomic_directory(output) as folder:
        for name in (AUDIO, NOTES, MANIFEST, INDEX, PREPARED):
            if (work / name).exists():  # there are scores, or not
                os.replace(work / name, folder / name)
    discard(work)


def _already_prepared(output: Path, key: str) -> Summary | None:
    """Return the summary of `output` where it is whole and its key is `key`."""
    about = _about(output)
    if about is None or about.get("key") != key:
        return None
    try:
        summary = from_dict(Summary, about.get("summary"))
        whole = all(
            (output / clip.path).stat().st_size == WAV_HEADER.size + 2 * clip.frames
            and (not clip.notes or (output / clip.notes).is_file())
            for clip in read_manifest(output)
        )
    except (OSError, WavenetError):
        return None
    return dataclasses.replace(summary, already_prepared=True) if whole else None


def _about(output: Path) -> dict[str, Any] | None:
    """Return what `prepare.json` says, or `None` where there is none of ours."""
    try:
        about = json.loads((output / PREPARED).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return about if isinstance(about, dict) and "key" in about else None


def _check_places(root: Path, output: Path) -> None:
    source, target = Path(os.path.realpath(root)), Path(os.path.realpath(output))
    if target == source or source in target.parents or target in source.parents:
        raise ConfigError(
            f"output {printable(output)} and data.root {printable(root)} lie inside each other: "
            "choose an output beside it"
        )
    if target.exists() and not target.is_dir():
        raise ConfigError(f"output {printable(output)} is a file: choose another place")
    if target.is_dir() and any(target.iterdir()) and _about(target) is None:
        raise ConfigError(
            f"output {printable(output)} holds files and no {PREPARED} of ours: it is left as it "
            "is; choose another place, or empty it yourself"
        )


def _bad_files(bad: Sequence[Inspection], outcome: str) -> str:
    """Return a message that names the first `MOST_FILES` of `bad`, and counts what helps."""
    lines = [f"{outcome}; recordings that cannot be used as they are: {len(bad)}"]
    for entry in bad[:MOST_FILES]:
        said = "; ".join(
            f"{printable(problem.reason)} ({problem.way_out})" for problem in entry.problems
        )
        lines.append(f"  {printable(entry.name, 100)}: {said}")
    if len(bad) > MOST_FILES:
        lines.append(f"  and {len(bad) - MOST_FILES} more")
    ways = Counter(way for entry in bad for way in {p.way_out for p in entry.problems})
    ways.pop("data.skip_bad=true", None)
    if ways:
        helps = ", ".join(f"{way} ({count})" for way, count in sorted(ways.items()))
        lines.append(f"These repair them, with the files that each concerns: {helps}.")
    lines.append("data.skip_bad=true leaves out, by name, whatever is still bad.")
    return "\n".join(lines)


def _each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    label: str,
    jobs: int | None,
    quiet: bool,
) -> Iterator[Result]:
    """Yield `function` of each item, in order, from a pool of threads."""
    pool = ThreadPoolExecutor(jobs or _cores())
    try:
        futures: Iterable[Future[Result]] = [pool.submit(function, item) for item in items]
        if sys.stderr.isatty() and not quiet:
            tqdm = require("tqdm", "generate").tqdm
            futures = tqdm(futures, desc=label, unit="file", smoothing=0)
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
