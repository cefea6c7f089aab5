"""The folder in which a data set is prepared, and the work on it in a pool of threads.

It lies next to the output as `.NAME.partial`. A recording is finished when its record exists: the
record holds what was found and written, under a key of the options and of the recording's size and
time. A record whose key or files do not match any more is ignored, and the recording is converted
again; so an interrupted preparation continues where it stopped.

Several jobs may fill it at once, each for its shard of the recordings; they remove nothing. The job
that publishes the clips holds the folder alone.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wavenet.data.manifest import Clip
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.conversion import PARTS, Converted, convert
from wavenet.data.preparation.frame_files import frames_key
from wavenet.data.preparation.inspection import Inspection, inspect
from wavenet.data.preparation.sources import Source
from wavenet.utils.cores import available_cores
from wavenet.utils.dataclass_io import from_dict, to_dict, to_file_dict
from wavenet.utils.errors import ConfigError, DataError, MachineError, listed, printable
from wavenet.utils.files import file_digest, locked, write_text
from wavenet.utils.progress import progress
from wavenet.utils.sharding import Shard

FORMAT = 3  # one higher whenever the same recording and options give another clip or summary
RECORDS = "records"
CONVERSIONS = {"data.mono=true", "data.resample=true"}  # repairs that cost nothing of a recording
WAITING_PER_THREAD = 64  # recordings that wait to be converted, or whose results wait to be read

log = logging.getLogger("wavenet")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Record:
    """A finished recording.

    Attributes:
        key: Digest of the recording and the options.
        inspection: What was found in it.
        converted: What was written.
    """

    key: str
    inspection: Inspection
    converted: Converted


def key_of(sources: Iterable[Source], options: PrepareOptions) -> str:
    """Return a digest that changes with the options and with any source's name, size or time."""
    seen = []
    for source in sources:
        notes = file_digest(source.notes) if source.notes is not None else ""
        own = (source.name, source.size, source.mtime_ns, source.speaker, notes)
        split = () if source.split is None else (f"split {source.split}",)
        seen.append((*own, *split, *frames_key(source)))
    return hashlib.sha256(json.dumps([FORMAT, plain_options(options), seen]).encode()).hexdigest()


def plain_options(options: PrepareOptions) -> dict[str, Any]:
    """Return what decides the clips, as plain data."""
    plain = to_file_dict(options)
    plain.pop("num_workers")
    return plain


@contextlib.contextmanager
def work_folder(output: Path, shard: Shard | None = None) -> Iterator[Path]:
    """Yield the work folder of `output`, locked for one shard or, without one, for all.

    It stays if a recording in it is finished; the log says so where an exception ends the block.

    Raises:
        MachineError: Another process prepares the same output or shard, or the disk refuses.
    """
    output = Path(os.path.realpath(output))
    folder = output.with_name(f".{output.name[:200]}.partial")
    with contextlib.ExitStack() as stack:
        try:
            (folder / RECORDS).mkdir(parents=True, exist_ok=True)
            if shard is not None:
                stack.enter_context(locked(folder, shared=True))
                stack.enter_context(locked(folder, f"shard {shard.number} of {shard.count}"))
            else:  # the shards first: an error then names the one that runs
                for path in sorted(folder.glob("shard * of *")):
                    stack.enter_context(locked(folder, path.name))
                stack.enter_context(locked(folder))
        except OSError as error:
            raise MachineError(
                f"cannot write {printable(folder)}: {error.strerror}: set data.processed_dir to a "
                "folder that can be written"
            ) from error
        try:
            yield folder
        except BaseException:
            count = sum(1 for _ in (folder / RECORDS).glob("*.json"))
            if count:
                log.info(
                    "%s stays, with %d finished recordings: the same command continues there, or "
                    "remove the folder",
                    *(printable(folder), count),
                )
            raise
        finally:
            if shard is None and not any((folder / RECORDS).glob("*.json")):
                shutil.rmtree(folder, ignore_errors=True)


def finished(folder: Path, sources: Iterable[Source]) -> list[Source]:
    """Return those of `sources` that have a record, valid or not."""
    names = {path.name for path in (folder / RECORDS).iterdir()}
    return [source for source in sources if _record_path(folder, source).name in names]


def read_records(
    work: Path, sources: Sequence[Source], options: PrepareOptions
) -> dict[str, Record]:
    """Return the records that are still valid, by name of their source."""
    read = functools.partial(_read_record, work, options)
    records = _in_threads(read, finished(work, sources), "verifying", options)
    return {record.inspection.name: record for record in records if record is not None}


def check_all(
    sources: Sequence[Source], options: PrepareOptions
) -> tuple[dict[str, Inspection], list[Inspection]]:
    """Return the good recordings by name, and the bad ones if `skip_invalid` allows them.

    Raises:
        DataError: There are bad ones, and it does not.
    """
    check = functools.partial(inspect, options=options)
    inspections = list(_in_threads(check, sources, "checking", options))
    bad = [inspection for inspection in inspections if inspection.problems]
    if bad and not options.skip_invalid:
        error = DataError(bad_files(bad, "nothing was prepared"))
        error.overrides = overrides_to_go_on(bad, len(sources))
        raise error
    return {entry.name: entry for entry in inspections if not entry.problems}, bad


def convert_all(
    sources: Sequence[Source], good: Mapping[str, Inspection], work: Path, options: PrepareOptions
) -> dict[str, Record]:
    """Convert those of `sources` that are good; return their records by name."""

    def finish(source: Source) -> Record:
        converted = convert(source, good[source.name], work, options)
        record = Record(key_of([source], options), good[source.name], converted)
        write_text(_record_path(work, source), json.dumps(to_dict(record)))
        return record

    todo = [source for source in sources if source.name in good]
    records = _in_threads(finish, todo, "preparing", options)
    return {record.inspection.name: record for record in records}


def keep_only(folder: Path, clips: Iterable[Clip]) -> None:
    """Remove every file of the work folder that belongs to none of `clips`."""
    kept = {
        str(folder / path) for clip in clips for path in (clip.path, clip.notes, clip.frames_file)
    }
    for part in PARTS:
        for place, folders, names in os.walk(folder / part, topdown=False):
            for name in names:
                if str(Path(place, name)) not in kept:
                    Path(place, name).unlink()
            for name in folders:
                with contextlib.suppress(OSError):  # not empty
                    Path(place, name).rmdir()


def bad_files(bad: Sequence[Inspection], outcome: str) -> str:
    """Return a message that lists the first of `bad`, and the options to set."""
    files = []
    for entry in bad:
        reasons = "; ".join(f"{printable(p.reason)} ({p.remedy})" for p in entry.problems)
        files.append(f"{printable(entry.name, 100)}: {reasons}")
    count = f"recordings that cannot be used as they are: {len(bad)}"
    lines = [f"{outcome}; {count}{listed(files)}"]
    remedies = Counter(remedy for entry in bad for remedy in {p.remedy for p in entry.problems})
    remedies.pop("data.skip_invalid=true", None)
    if remedies:
        counted = ", ".join(f"{remedy} ({count})" for remedy, count in sorted(remedies.items()))
        lines.append(f"These options repair them (number of files): {counted}.")
    lines.append("data.skip_invalid=true leaves out, by name, whatever is still bad.")
    return "\n".join(lines)


def overrides_to_go_on(bad: Sequence[Inspection], count: int) -> list[str]:
    """Return the options with which the preparation of `count` recordings goes on.

    Recordings are converted if that is all they need, others are left out; if none were left,
    there is no way to go on.
    """
    remedies = [{problem.remedy for problem in entry.problems} for entry in bad]
    left_out = [own for own in remedies if not own <= CONVERSIONS]
    if len(left_out) == count:
        return []
    converted = set().union(*(own for own in remedies if own <= CONVERSIONS))
    return [*sorted(converted), *["data.skip_invalid=true"] * bool(left_out)]


def _record_path(folder: Path, source: Source) -> Path:
    return folder / RECORDS / f"{source.digest}.json"


def _read_record(folder: Path, options: PrepareOptions, source: Source) -> Record | None:
    """Return the record of `source` if its key and the digests of its clips match."""
    with contextlib.suppress(OSError, ValueError, RecursionError, ConfigError):
        record = from_dict(Record, json.loads(_record_path(folder, source).read_text("utf-8")))
        clips = record.converted.clips
        if (
            record.key == key_of([source], options)
            and all(file_digest(folder / clip.path) == clip.digest for clip in clips)
            and all((folder / clip.notes).is_file() for clip in clips if clip.notes)
            and all(
                file_digest(folder / clip.frames_file) == clip.frames_digest
                for clip in clips
                if clip.frames_file
            )
        ):
            return record
    return None


def _in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    options: PrepareOptions,
) -> Iterator[Result]:
    """Yield `function` of each item, in order, with a bounded number of results waiting."""
    threads = options.num_workers or available_cores()
    shown = progress(len(items), unit="file", description=description, disable=not items)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        with shown as advance:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == WAITING_PER_THREAD * threads:
                    yield waiting.popleft().result()
                    advance()
            while waiting:
                yield waiting.popleft().result()
                advance()
    finally:
        pool.shutdown(cancel_futures=True)
