"""A folder of recordings to a prepared folder: all recordings are checked, then all converted.

The clips are written to a work folder (`wavenet.data.preparation.work_dir`) that takes the final
name in one rename; an interrupted preparation continues there. Several jobs can fill it at once,
each with a shard of the recordings (`prepare_shard`); `prepare_clips` then publishes the clips of
all. Both take a plan, which `plan_data` or `make_plan` makes of the recordings' names.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from wavenet.config import AudioConfig, FramesConfig
from wavenet.data.corpora import get_corpus
from wavenet.data.manifest import MANIFEST, Clip, read_manifest
from wavenet.data.options import DataOptions, PrepareOptions
from wavenet.data.preparation.frame_files import with_frames
from wavenet.data.preparation.prepared_folder import (
    DIGITS,
    Plan,
    already_prepared,
    check_places,
    publish,
    recover,
)
from wavenet.data.preparation.sources import SourceListing
from wavenet.data.preparation.splits import assign_splits, with_splits
from wavenet.data.preparation.summary import PreparationSummary, ShardReport, remarks_on, summarize
from wavenet.data.preparation.work_dir import (
    Record,
    bad_files,
    check_all,
    convert_all,
    finished,
    keep_only,
    key_of,
    read_records,
    work_folder,
)
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.sharding import Shard

log = logging.getLogger("wavenet")


def ensure_prepared(options: DataOptions, audio: AudioConfig | None = None) -> Path:
    """Return the prepared folder of `options`, after preparing it if that is not done.

    Args:
        options: The recordings and the output.
        audio: Features that the recordings must allow; see `plan_data`.
    """
    if options.root is None:
        return options.folder
    plan = plan_data(options, audio)
    summary = prepare_clips(plan)
    log.info("%s", summary.line() if summary.already_prepared else summary.table())
    return plan.output


def ensure_same_data(
    options: DataOptions,
    expected: DataIdentity | None,
    owner: Path,
    audio: AudioConfig | None = None,
) -> Path:
    """Return the prepared folder of something that was trained before.

    Args:
        options: Its data options. If their folder exists, its recordings are not looked at.
        expected: Identity of its clips; `None` if that is not known.
        owner: The run or model directory, for the message.
        audio: Features that the recordings must allow; see `plan_data`.

    Raises:
        DataError: The folder holds other clips, or another split of them.
    """
    there = options.processed_dir is not None and (options.folder / MANIFEST).is_file()
    folder = options.folder if there else ensure_prepared(options, audio)
    found = read_manifest(folder).identity
    if expected is not None and found != expected:
        raise DataError(
            f"{printable(folder)} holds the clips {found}, but {printable(owner)} was trained with "
            f"{expected}: set data.processed_dir to the folder with those, or data.root to the "
            "recordings that they were made of"
        )
    return folder


def plan_data(
    options: DataOptions, audio: AudioConfig | None = None, shard: Shard | None = None
) -> Plan:
    """Fetch the recordings if that is asked for, and plan their preparation.

    Args:
        options: The recordings and the output, by default `prepared/NAME-RATE-DIGEST`.
        audio: Features that the recordings must allow: `score` needs scores, `frames` their files.
        shard: The only one to be prepared; the first may fetch the recordings.

    Raises:
        ConfigError: The options contradict each other, the recordings, or the folder that is there.
        DataError: There are no recordings, or too few.
        MachineError: The recordings cannot be fetched or listed.
    """
    root = options.source
    if options.download and not (root.exists() and any(root.iterdir())):
        _fetch(options, shard)
    chosen = None if options.processed_dir is None else Path(options.processed_dir)
    frames = None if audio is None else audio.frames
    if frames is None and options.frames_dir is not None:
        raise ConfigError(
            "data.frames_dir is for a model with audio.frames: add "
            "audio.frames={channels:VALUE,hop_length:VALUE}, or leave it out"
        )
    frames_dir = None if options.frames_dir is None else Path(options.frames_dir)
    split_list = None if options.split_list is None else Path(options.split_list)
    plan = make_plan(root, chosen, options.preparation, frames, frames_dir, split_list)
    sources = plan.found.sources
    by_folder = options.speaker_from_folder and any(
        source.folder_speaker(options.split_from_folder) for source in sources
    )
    if options.use_speakers and not by_folder and not any(source.speaker for source in sources):
        raise ConfigError(
            f"data.use_speakers=true, but no recording below {printable(root)} names its speaker: "
            "set data.speaker_from_folder=true if each speaker has a folder, or data.corpus to a "
            "corpus that names them, or leave data.use_speakers out"
        )
    if audio is not None and audio.score is not None and not any(s.notes for s in sources):
        raise ConfigError(
            f"audio.score is set, but no recording below {printable(root)} has a score: set "
            "data.corpus to a corpus with scores, such as chorales, or leave audio.score out"
        )
    return plan


def _fetch(options: DataOptions, shard: Shard | None) -> None:
    corpus, root = get_corpus(options.corpus), options.source
    if shard is not None and shard.number > 1:
        raise ConfigError(
            f"data.download: {printable(root)} does not exist, and only the first shard fetches "
            f"it: run shard=1/{shard.count} alone, then the others"
        )
    if corpus.fetch is None:
        raise ConfigError(
            f"data.download: {corpus.name} cannot be fetched by a program; {corpus.about}"
        )
    log.info("fetching %s into %s", corpus.name, printable(root))
    corpus.fetch(root)


def make_plan(
    root: Path,
    output: Path | None,
    options: PrepareOptions,
    frames: FramesConfig | None = None,
    frames_dir: Path | None = None,
    split_list: Path | None = None,
) -> Plan:
    """Look at the names of the recordings, and refuse what cannot work before any work.

    Args:
        root: Folder of recordings, at any depth.
        output: Folder to make; `None` for `prepared/NAME-RATE-DIGEST`.
        options: What may be done to the recordings.
        frames: Shape of the frames that come with the recordings as files; absent for none.
        frames_dir: Folder of those files; absent for beside the recordings.
        split_list: File with the splits of the recordings; absent for those of the options.

    Raises:
        ConfigError: `output` holds something else, or it and `root` lie inside each other.
        DataError: There are no recordings, or too few.
    """
    found = get_corpus(options.corpus).find(root)
    if frames is not None:
        found = with_frames(found, frames, frames_dir)
    found = with_splits(found, root, options, split_list)
    key = key_of(found.sources, options)
    if output is None:
        output = Path("prepared", f"{root.resolve().name}-{options.sample_rate}-{key[:DIGITS]}")
    check_places(root, output)
    assign_splits(found.sources, options)  # raises if there are too few
    return Plan(root, options, found, key, output)


def prepare_clips(plan: Plan) -> PreparationSummary:
    """Check every recording of `plan`, then convert, split and publish them.

    A second call with the same recordings and options returns at once.

    Args:
        plan: Recordings, options and output.

    Raises:
        ConfigError: The output holds other clips.
        DataError: Recordings are bad: all of them are listed, and nothing is written. Or the output
            is damaged.
        MachineError: The disk refuses, or other processes prepare the same output.
    """
    summary = already_prepared(plan)
    if summary is not None:
        return summary
    found, options = plan.found, plan.options
    with work_folder(plan.output) as work:
        summary = already_prepared(plan)  # another process may have finished meanwhile
        if summary is not None:
            return summary
        recover(work)
        records = read_records(work, found.sources, options)
        keep_only(work, (clip for entry in records.values() for clip in entry.converted.clips))
        todo = [source for source in found.sources if source.name not in records]
        good, bad = check_all(todo, options)
        names = good.keys() | records.keys()
        taken = [source for source in found.sources if source.name in names]
        if not taken:
            raise DataError(bad_files(bad, "no recording is left"))
        assign_splits(taken, options)  # raises before the conversion if there are too few
        records |= convert_all(todo, good, work, options)
        done = [records[source.name] for source in taken]
        clips = _split(found, done, options)
        summary = summarize(found, done, clips, bad, options.sample_rate)
        publish(work, plan, clips, summary)
    return summary


def prepare_shard(plan: Plan, shard: Shard) -> ShardReport | PreparationSummary:
    """Check and convert one shard of the recordings; once all are done, `prepare_clips` is quick.

    Shards can run at once, on several machines too; the names of the recordings alone decide which
    shard has which. The output is not touched.

    Args:
        plan: The same for all shards.
        shard: Which recordings, of all that are found.

    Returns:
        What the job did; the summary of the output if that is prepared already.

    Raises:
        ConfigError, DataError, MachineError: As `prepare_clips`, for recordings of the shard.
    """
    summary = already_prepared(plan)
    if summary is not None:
        return summary
    options, own = plan.options, shard.of(plan.found.sources)
    with work_folder(plan.output, shard) as work:
        records = read_records(work, own, options)
        todo = [source for source in own if source.name not in records]
        good, bad = check_all(todo, options)
        convert_all(todo, good, work, options)
        return ShardReport(
            shard=str(shard),
            files=len(plan.found.sources),
            own=len(own),
            before=len(records),
            left_out=remarks_on(bad),
            finished=len(finished(work, plan.found.sources)),
        )


def _split(
    found: SourceListing, records: Sequence[Record], options: PrepareOptions
) -> Sequence[Clip]:
    """Return the clips of `records` with the splits of their sources."""
    clips = [clip for record in records for clip in record.converted.clips]
    used = {clip.source for clip in clips}
    if not used:
        raise DataError(
            f"{len(records)} recordings gave no clip: after trimming and splitting no piece is as "
            f"long as {options.min_seconds:g} s; raise data.trim_top_db and data.split_top_db, or "
            "lower data.min_seconds"
        )
    splits = assign_splits((s for s in found.sources if s.name in used), options)
    return [dataclasses.replace(clip, split=splits[clip.source]) for clip in clips]
