"""The steps that take some recordings to finished ones in a work folder, in a pool of threads.

What an earlier run finished is taken up; the others are all checked first, then all converted.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.conversion import convert
from wavenet.data.preparation.inspection import Inspection, inspect
from wavenet.data.preparation.sources import Source
from wavenet.data.preparation.work_dir import Record, finished, key_of, read_record, write_record
from wavenet.utils.errors import DataError, printable
from wavenet.utils.progress import progress

MOST_FILES = 12  # named in a message
BACKLOG = 64  # recordings a thread that wait to be done, or to be taken up

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_records(
    work: Path, sources: Sequence[Source], options: PrepareOptions, quiet: bool
) -> dict[str, Record]:
    """Return the records that still hold, by name of their source."""
    todo = finished(work, sources)
    read = _each(
        lambda source: read_record(work, source, options),
        todo,
        "verifying",
        options.num_workers,
        quiet,
    )
    return {record.inspection.name: record for record in read if record is not None}


def check_all(
    sources: Sequence[Source], options: PrepareOptions, quiet: bool
) -> tuple[dict[str, Inspection], list[Inspection]]:
    """Return the good recordings by name, and the bad ones where they may be left out."""
    inspections = list(
        _each(
            lambda source: inspect(source, options), sources, "checking", options.num_workers, quiet
        )
    )
    bad = [inspection for inspection in inspections if inspection.problems]
    if bad and not options.skip_invalid:
        raise DataError(bad_files(bad, "nothing was prepared"))
    return {entry.name: entry for entry in inspections if not entry.problems}, bad


def convert_all(
    sources: Sequence[Source],
    good: Mapping[str, Inspection],
    work: Path,
    options: PrepareOptions,
    quiet: bool,
) -> dict[str, Record]:
    """Convert those of `sources` that are good; return their records by name."""

    def finish(source: Source) -> Record:
        converted = convert(source, good[source.name], work, options)
        record = Record(key_of([source], options), good[source.name], converted)
        write_record(work, source, record)
        return record

    todo = [source for source in sources if source.name in good]
    fresh = _each(finish, todo, "preparing", options.num_workers, quiet)
    return {record.inspection.name: record for record in fresh}


def bad_files(bad: Sequence[Inspection], outcome: str) -> str:
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
    ways.pop("data.skip_invalid=true", None)
    if ways:
        helps = ", ".join(f"{way} ({count})" for way, count in sorted(ways.items()))
        lines.append(f"These repair them, with the files that each concerns: {helps}.")
    lines.append("data.skip_invalid=true leaves out, by name, whatever is still bad.")
    return "\n".join(lines)


def _each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    label: str,
    jobs: int | None,
    quiet: bool,
) -> Iterator[Result]:
    """Yield `function` of each item, in order, from a pool of threads."""
    with progress(len(items), unit="file", description=label, disable=quiet) as advance:
        for result in _in_order(function, items, jobs or _cores()):
            advance()
            yield result


def _in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield `function` of each item, so many at a time; few wait, however many there are."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == BACKLOG * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
