"""A folder of recordings to a prepared folder: all of them checked first, then all converted.

The output holds `audio/`, `notes/` where there are scores, `manifest.jsonl` with its index, and
`prepare.json`. It is built in a work folder beside it and takes its name in one rename;
interrupted, the next run takes up what is finished. Several jobs can each fill the work folder for
a shard of the recordings (`wavenet.data.preparation.sharded`); `prepare` then publishes the results
of all of them.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavenet.data.audio import WAV_HEADER
from wavenet.data.corpora import corpus_of
from wavenet.data.manifest import MANIFEST, Clip, read_manifest, write_manifest
from wavenet.data.manifest_index import INDEX
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.conversion import AUDIO, NOTES
from wavenet.data.preparation.pipeline import bad_files, check_all, convert_all, read_records
from wavenet.data.preparation.sources import Found
from wavenet.data.preparation.splits import assign_splits, split_clips
from wavenet.data.preparation.summary import Summary, summarize
from wavenet.data.preparation.work_dir import (
    FORMAT,
    Record,
    discard,
    keep_only,
    key_of,
    work_folder,
)
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, DataError, MachineError, WavenetError, printable
from wavenet.utils.files import leftovers, put_directory, remove_leftovers, write_text

__all__ = ["PrepareOptions", "Summary", "prepare"]

log = logging.getLogger("wavenet")
PREPARED = "prepare.json"
READY = "ready"  # in the work folder: what is to take its name


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
        EnvironmentFault: The disk refuses, or other processes prepare the same output.
    """
    check_places(root, output)
    found = corpus_of(options.corpus).find(root)
    key = key_of(found.sources, options)
    target = Path(os.path.realpath(output))
    summary = already_prepared(output, key)
    if summary is not None:
        _tidy(target)
        return summary
    with work_folder(target) as work:
        _recover(target, work)
        summary = already_prepared(output, key)
        if summary is not None:  # it was put back, or finished by another meanwhile
            return summary
        before = _about(output)
        if before is not None:
            log.warning(
                "warning: %s holds clips of %s: they are replaced; data.processed_dir=FOLDER puts "
                "these elsewhere",
                *(printable(output), _difference(before.get("options"), options)),
            )
        records = read_records(work, found.sources, options, quiet)
        keep_only(work, (clip for entry in records.values() for clip in entry.converted.clips))
        todo = [source for source in found.sources if source.name not in records]
        good, bad = check_all(todo, options, quiet)
        names = good.keys() | records.keys()
        taken = [source for source in found.sources if source.name in names]
        if not taken:
            raise DataError(bad_files(bad, "no recording is left"))
        assign_splits(taken, options)  # what cannot be split fails here, before the work
        records |= convert_all(todo, good, work, options, quiet)
        done = [records[source.name] for source in taken]
        clips = _split(found, done, options)
        summary = summarize(found, done, clips, bad, options.sample_rate)
        _publish(work, output, clips, {"key": key, "options": to_dict(options)}, summary)
    return summary


def _difference(before: Any, options: PrepareOptions) -> str:
    """Return in what clips that were made before differ from what is asked for now."""
    if isinstance(before, dict):
        now = to_dict(options)
        now.pop("num_workers")
        other = {name: before.get(name) for name in now if before.get(name) != now[name]}
        said = ", ".join(f"{name}={json.dumps(value)}" for name, value in other.items())
        return f"other options ({printable(said)})" if said else "other recordings"
    return "other recordings or options"


def _split(found: Found, records: Sequence[Record], options: PrepareOptions) -> Sequence[Clip]:
    """Return the clips of `records`, with their splits."""
    clips = [clip for record in records for clip in record.converted.clips]
    used = {clip.source for clip in clips}
    if not used:
        raise DataError(
            f"{len(records)} recordings gave no clip: after trimming and splitting no piece is as "
            f"long as {options.min_seconds:g} s; raise data.trim_top_db and data.split_top_db, or "
            "lower data.min_seconds"
        )
    return split_clips(clips, assign_splits((s for s in found.sources if s.name in used), options))


def _publish(
    work: Path, output: Path, clips: Sequence[Clip], about: dict[str, Any], summary: Summary
) -> None:
    """Give what lies in the work folder the name `output`, and remove the rest."""
    keep_only(work, clips)
    write_manifest(work / MANIFEST, clips)
    about["options"].pop("num_workers")
    text = json.dumps({"format": FORMAT, **about, "summary": to_dict(summary)}, indent=2)
    write_text(work / PREPARED, text + "\n")
    (work / READY).mkdir()
    for name in (AUDIO, NOTES, MANIFEST, INDEX, PREPARED):
        if (work / name).exists():  # there are scores, or not
            os.replace(work / name, work / READY / name)
    put_directory(work / READY, output)
    discard(work)


def _recover(target: Path, work: Path) -> None:
    """Take up what a run left that ended while it published: clips, and older ones aside."""
    for part in (AUDIO, NOTES):
        if (work / READY / part).exists() and not (work / part).exists():
            os.replace(work / READY / part, work / part)
    shutil.rmtree(work / READY, ignore_errors=True)
    remove_leftovers(target.parent, target.name)


def _tidy(target: Path) -> None:
    """Remove what a killed run left beside `target`, which is whole, unless that is in use."""
    if leftovers(target.parent, target.name):
        with contextlib.suppress(MachineError), work_folder(target):
            remove_leftovers(target.parent, target.name)


def already_prepared(output: Path, key: str) -> Summary | None:
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


def check_places(root: Path, output: Path) -> None:
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
