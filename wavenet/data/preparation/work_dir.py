"""The folder in which a data set is prepared, and what of it an interrupted run left finished.

It lies beside the output as `.NAME.partial`. A recording is finished when its record is there:
the record holds what was found and written, under a key over the options and the recording's size
and time. A record whose key or files no longer fit is dropped, and the recording done again.

Several jobs may fill it at once, each for its shard of the recordings; they remove nothing. Who
publishes holds it alone.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wavenet.data.manifest import Clip
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.conversion import AUDIO, NOTES, Converted
from wavenet.data.preparation.inspection import Inspection
from wavenet.data.preparation.sources import Source
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, MachineError, printable
from wavenet.utils.files import file_digest, locked, write_text
from wavenet.utils.sharding import Shard

FORMAT = 2  # one higher whenever the same recording and options give another clip
RECORDS = "records"


@dataclass(frozen=True)
class Record:
    """A finished recording.

    Attributes:
        key: Of the recording and the options.
        inspection: What was found in it.
        converted: What was written.
    """

    key: str
    inspection: Inspection
    converted: Converted


def key_of(sources: Iterable[Source], options: PrepareOptions) -> str:
    """Return a digest that changes with the options and with any source's name, size or time."""
    said = {name: value for name, value in to_dict(options).items() if name != "num_workers"}
    seen = [
        (source.name, source.size, source.mtime_ns, source.speaker, _digest(source.notes))
        for source in sources
    ]
    return hashlib.sha256(json.dumps([FORMAT, said, seen]).encode()).hexdigest()


@contextlib.contextmanager
def work_folder(output: Path, shard: Shard | None = None) -> Iterator[Path]:
    """Yield the work folder of `output`, ours alone or ours for one shard.

    It stays if a recording in it is finished.

    Raises:
        EnvironmentFault: Another process prepares the same output or shard, or the disk refuses.
    """
    folder = output.with_name(f".{output.name[:200]}.partial")
    with contextlib.ExitStack() as stack:
        try:
            (folder / RECORDS).mkdir(parents=True, exist_ok=True)
            _hold(folder, shard, stack)
        except OSError as error:
            raise MachineError(
                f"cannot write {printable(folder)}: {error.strerror}: choose another place"
            ) from error
        try:
            yield folder
        finally:
            if shard is None and not any((folder / RECORDS).glob("*.json")):
                discard(folder)


def _hold(folder: Path, shard: Shard | None, stack: contextlib.ExitStack) -> None:
    """Lock the work folder for one shard, or against all of them: who holds one is named."""
    if shard is not None:
        stack.enter_context(locked(folder, shared=True))
        stack.enter_context(locked(folder, f"shard {shard.number} of {shard.count}"))
        return
    for path in sorted(folder.glob("shard * of *")):
        stack.enter_context(locked(folder, path.name))
    stack.enter_context(locked(folder))


def write_record(folder: Path, source: Source, record: Record) -> None:
    """Mark `source` as finished."""
    write_text(_place(folder, source), json.dumps(to_dict(record)))


def finished(folder: Path, sources: Iterable[Source]) -> list[Source]:
    """Return those of `sources` that have a record, whether it still holds or not."""
    names = {path.name for path in (folder / RECORDS).iterdir()}
    return [source for source in sources if _place(folder, source).name in names]


def read_record(folder: Path, source: Source, options: PrepareOptions) -> Record | None:
    """Return the record of `source` if it still holds: the clips are read to their last byte."""
    with contextlib.suppress(OSError, ValueError, RecursionError, ConfigError):
        record = from_dict(Record, json.loads(_place(folder, source).read_text("utf-8")))
        if record.key == key_of([source], options) and _is_there(folder, record):
            return record
    return None


def keep_only(folder: Path, clips: Iterable[Clip]) -> None:
    """Remove every recording and score of the work folder that belongs to none of `clips`."""
    kept = {str(folder / path) for clip in clips for path in (clip.path, clip.notes)}
    for part in (AUDIO, NOTES):
        for place, folders, names in os.walk(folder / part, topdown=False):
            for name in names:
                if str(Path(place, name)) not in kept:
                    Path(place, name).unlink()
            for name in folders:
                with contextlib.suppress(OSError):  # not empty
                    Path(place, name).rmdir()


def _digest(notes: Path | None) -> str:
    return file_digest(notes) if notes is not None else ""


def discard(folder: Path) -> None:
    """Remove the work folder."""
    shutil.rmtree(folder, ignore_errors=True)


def _place(folder: Path, source: Source) -> Path:
    return folder / RECORDS / f"{source.digest}.json"


def _is_there(folder: Path, record: Record) -> bool:
    return all(
        file_digest(folder / clip.path) == clip.digest
        and (not clip.notes or (folder / clip.notes).is_file())
        for clip in record.converted.clips
    )
