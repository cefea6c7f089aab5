"""A prepared folder: published in one rename, and never replaced or removed after.

It holds `audio/`, `notes/` where there are scores, `frames/` where there are frames in files,
`manifest.jsonl` with its index, and `prepare.json`. By default its name ends in a digest of the
recordings and the options. Other options or recordings get another folder, so a run keeps the clips
that it began with; a damaged folder is an error, for something may be reading it.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavenet.data.audio import WAV_HEADER_BYTES
from wavenet.data.manifest import MANIFEST, Clip, read_manifest, write_manifest
from wavenet.data.manifest_index import INDEX
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.conversion import PARTS
from wavenet.data.preparation.sources import SourceListing
from wavenet.data.preparation.summary import PreparationSummary
from wavenet.data.preparation.work_dir import FORMAT, keep_only, plain_options
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, DataError, WavenetError, printable
from wavenet.utils.files import put_directory, write_text

ACCOUNT = "prepare.json"  # what the clips were made of, and the summary
READY = "ready"  # part of the work folder that takes the final name
DIGITS = 8  # of the digest in a folder's name


@dataclass(frozen=True)
class Plan:
    """A preparation before any work.

    Attributes:
        root: Folder of recordings.
        options: What may be done to them.
        found: The recordings.
        key: Digest of the recordings and the options.
        output: The prepared folder.
    """

    root: Path
    options: PrepareOptions
    found: SourceListing
    key: str
    output: Path


def publish(work: Path, plan: Plan, clips: Sequence[Clip], summary: PreparationSummary) -> None:
    """Give the clips in the work folder their final name, and remove the rest of it."""
    keep_only(work, clips)
    write_manifest(work / MANIFEST, clips)
    account = {
        "format": FORMAT,
        "key": plan.key,
        "options": plain_options(plan.options),
        "summary": to_dict(summary),
    }
    write_text(work / ACCOUNT, json.dumps(account, indent=2) + "\n")
    (work / READY).mkdir()
    for name in (*PARTS, MANIFEST, INDEX, ACCOUNT):
        if (work / name).exists():  # there are scores or frames, or not
            os.replace(work / name, work / READY / name)
    check_places(plan.root, plan.output)  # on a disk without locks another may have published
    if already_prepared(plan) is None:
        put_directory(work / READY, plan.output)
    shutil.rmtree(work, ignore_errors=True)


def recover(work: Path) -> None:
    """Put back what a killed process had gathered to publish."""
    for part in PARTS:
        if (work / READY / part).exists() and not (work / part).exists():
            os.replace(work / READY / part, work / part)
    shutil.rmtree(work / READY, ignore_errors=True)


def already_prepared(plan: Plan) -> PreparationSummary | None:
    """Return the summary of the output, `None` if it does not exist yet.

    Raises:
        ConfigError: It holds other clips, or has another version's format.
        DataError: It is damaged. It is not repaired, for something may be reading it.
    """
    account = _read_account(plan.output)
    if account is None:
        return None
    if account.get("format") != FORMAT:
        raise ConfigError(
            f"{printable(plan.output)} was prepared in format {account.get('format')}, this "
            f"version writes {FORMAT}; it is left unchanged: choose another data.processed_dir, or "
            "leave it out for a folder of each data set's own"
        )
    if account["key"] != plan.key:
        raise ConfigError(_other_data(plan, account))
    try:
        summary = from_dict(PreparationSummary, account.get("summary"))
        for clip in read_manifest(plan.output):
            size = (plan.output / clip.path).stat().st_size
            if size != WAV_HEADER_BYTES + 2 * clip.frames:
                raise DataError(f"{printable(clip.path)} has {size} bytes")
            for path in filter(None, (clip.notes, clip.frames_file)):
                (plan.output / path).stat()
    except (OSError, WavenetError) as error:
        raise DataError(
            f"{printable(plan.output)} is damaged ({printable(error)}): when nothing reads it any "
            "more, remove the folder, and the same command prepares it again"
        ) from error
    return dataclasses.replace(summary, already_prepared=True)


def _other_data(plan: Plan, account: dict[str, Any]) -> str:
    """Return the message that the output holds other clips, with both described."""
    old, new = account.get("options"), plain_options(plan.options)
    old = old if isinstance(old, dict) else {}
    different = [name for name in new if old.get(name) != new[name]]
    summary = account.get("summary")
    counts = (summary.get("files") if isinstance(summary, dict) else None, len(plan.found.sources))
    described = []
    for key, options, count in zip((account["key"], plan.key), (old, new), counts, strict=True):
        values = [f"{name}={json.dumps(options.get(name))}" for name in different]
        described.append(", ".join([str(key)[:DIGITS], f"{count} recordings", *values]))
    kind = "options" if different else "recordings"
    if not different and any(source.split for source in plan.found.sources):
        kind = "recordings or splits"
    there, wanted = (printable(text) for text in described)
    return (
        f"{printable(plan.output)} holds clips of other {kind} (there: {there}; now: {wanted}) "
        "and is left unchanged: choose another data.processed_dir, or leave it out for a folder of "
        "each data set's own"
    )


def _read_account(output: Path) -> dict[str, Any] | None:
    """Return `prepare.json` of a prepared folder, `None` if there is none of ours."""
    try:
        account = json.loads((output / ACCOUNT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return account if isinstance(account, dict) and "key" in account else None


def check_places(root: Path, output: Path) -> None:
    """Raise a `ConfigError` unless `output` can be made of `root`, or is a prepared folder."""
    source, target = Path(os.path.realpath(root)), Path(os.path.realpath(output))
    if target == source or source in target.parents or target in source.parents:
        raise ConfigError(
            f"output {printable(output)} and data.root {printable(root)} lie inside each other: "
            "set data.processed_dir to a folder outside of it"
        )
    if target.exists() and not target.is_dir():
        raise ConfigError(f"output {printable(output)} is a file: choose another place")
    if target.is_dir() and any(target.iterdir()) and _read_account(target) is None:
        raise ConfigError(
            f"output {printable(output)} holds files but no {ACCOUNT} of ours: it is left "
            "unchanged; choose another place, or empty it yourself"
        )
