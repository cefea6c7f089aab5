"""Shards: several jobs prepare one data set side by side, and what they leave is taken up."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import environment
from tests.forks import CommandProcess
from wavenet.data.options import DataOptions, PrepareOptions
from wavenet.data.preparation.prepare import (
    ensure_prepared,
    make_plan,
    plan_data,
    prepare_clips,
    prepare_shard,
)
from wavenet.data.preparation.summary import PreparationSummary, ShardReport
from wavenet.data.preparation.work_dir import work_folder
from wavenet.utils.errors import ConfigError, DataError, MachineError
from wavenet.utils.sharding import Shard

from .conftest import Record, Samples


def options(**changes: Any) -> PrepareOptions:
    return PrepareOptions(sample_rate=16000, num_workers=2, **changes)


def whole(folder: Path, output: str = "out", **changes: Any) -> PreparationSummary:
    plan = make_plan(folder / "root", folder / output, options(**changes))
    return prepare_clips(plan)


def share(folder: Path, text: str, **changes: Any) -> ShardReport:
    shard = Shard.from_text(text)
    plan = make_plan(folder / "root", folder / "out", options(**changes))
    done = prepare_shard(plan, shard)
    assert isinstance(done, ShardReport)
    return done


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def corpus(record: Record, noise: Samples, tmp_path: Path) -> Path:
    """Return a folder whose `root` holds ten good recordings with pieces between silences."""
    silence = np.zeros(8000, np.float32)
    for number in range(10):
        pieces = [noise * np.float32(1 - number / 20), silence, noise[number:]]
        record(f"p{number % 3}/{number}.flac", np.concatenate(pieces))
    return tmp_path


def test_shards_and_a_merge_equal_one_run(corpus: Path) -> None:
    whole(corpus, "whole", split_top_db=40.0)

    shares = [share(corpus, f"{number}/3", split_top_db=40.0) for number in (2, 1, 3)]
    work = {path: path.stat().st_mtime_ns for path in (corpus / ".out.partial").rglob("*.wav")}
    assert not (corpus / "out").exists()
    summary = whole(corpus, split_top_db=40.0)

    assert [(done.own, done.before, done.finished) for done in shares] == [
        (3, 0, 3),
        (4, 0, 7),
        (3, 0, 10),
    ]
    assert len(work) == 20
    published = sorted(path.stat().st_mtime_ns for path in (corpus / "out").rglob("*.wav"))
    assert published == sorted(work.values()), "a finished recording was done again"
    assert digests(corpus / "out") == digests(corpus / "whole")
    assert not summary.already_prepared
    assert sorted(path.name for path in corpus.iterdir()) == ["out", "root", "whole"]


def test_shard_reports_finished_and_remaining_work(corpus: Path) -> None:
    share(corpus, "1/2")
    (corpus / ".out.partial" / "audio" / "p0" / "0.flac.wav").unlink()

    table = share(corpus, "1/2").table()

    assert "shard 1/2: 5 of 10 recordings, 1 prepared now, 4 before" in table
    assert "finished in all shards: 5 of 10" in table
    assert "the same command without shard=" in table


def test_merge_completes_the_work_of_a_killed_shard(corpus: Path) -> None:
    whole(corpus, "whole")
    share(corpus, "2/3")

    whole(corpus)

    assert digests(corpus / "out") == digests(corpus / "whole")


def test_training_uses_the_clips_of_finished_shards(corpus: Path) -> None:
    chosen = DataOptions(
        sample_rate=16000, root=str(corpus / "root"), processed_dir=str(corpus / "out")
    )
    for number in (1, 2):
        prepare_shard(plan_data(chosen), Shard(number, 2))
    (before,) = (corpus / ".out.partial").rglob("0.flac.wav")
    time_before = before.stat().st_mtime_ns

    folder = ensure_prepared(chosen)

    assert (folder / "audio" / "p0" / "0.flac.wav").stat().st_mtime_ns == time_before


def test_a_shard_removes_nothing_of_another(corpus: Path) -> None:
    share(corpus, "1/2")
    halfway = corpus / ".out.partial" / "audio" / "p1" / ".7.flac.wav.tmp-01234567"
    halfway.write_bytes(b"another shard writes here")
    before = digests(corpus / ".out.partial" / "audio")

    share(corpus, "2/2")

    after = digests(corpus / ".out.partial" / "audio")
    assert before.items() < after.items()
    whole(corpus)
    assert not list(corpus.rglob("*.tmp-*"))


def test_bad_recordings_of_a_shard_are_listed_and_stop_no_other(
    corpus: Path, record: Record, noise: Samples
) -> None:
    record("z.wav", noise, 8000)  # the eleventh in the order of names

    with pytest.raises(DataError, match=r"z.wav: 8000 Hz, wanted 16000 Hz \(data.resample=true\)"):
        share(corpus, "2/3")
    assert share(corpus, "1/3").finished == 4
    done = share(corpus, "2/3", skip_invalid=True)
    assert list(done.left_out) == ["z.wav"]
    assert "left out: 1" in done.table()


def test_merge_names_what_shards_skipped(corpus: Path, record: Record, noise: Samples) -> None:
    record("z.wav", noise, 8000)
    for number in (1, 2):
        share(corpus, f"{number}/2", skip_invalid=True)

    summary = whole(corpus, skip_invalid=True)

    assert list(summary.left_out) == ["z.wav"]
    assert summary == whole(corpus, "whole", skip_invalid=True)


def test_more_shards_than_recordings_leave_some_without_work(corpus: Path) -> None:
    assert share(corpus, "12/12").own == 0


def test_too_few_recordings_to_split_are_refused_before_work(
    record: Record, noise: Samples, tmp_path: Path
) -> None:
    record("a.wav", noise)

    with pytest.raises(DataError, match=r"data\.test_fraction=0"):
        share(tmp_path, "1/2")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_shard_of_what_is_prepared_has_nothing_to_do(corpus: Path) -> None:
    whole(corpus)

    plan = make_plan(corpus / "root", corpus / "out", options())
    done = prepare_shard(plan, Shard(1, 2))

    assert "already prepared" in done.table()
    assert sorted(path.name for path in corpus.iterdir()) == ["out", "root"]


def test_shards_run_in_parallel_and_a_merge_meanwhile_is_refused(corpus: Path) -> None:
    with work_folder(corpus / "out", Shard(1, 3)), work_folder(corpus / "out", Shard(2, 3)):
        holder = f"in use by process {os.getpid()} on .*"
        share(corpus, "3/3")
        with pytest.raises(MachineError, match=rf"{holder}\(shard 1 of 3\)"):
            whole(corpus)
        with pytest.raises(MachineError, match=rf"{holder}\(shard 2 of 3\)"):
            share(corpus, "2/3")
    assert not (corpus / "out").exists()
    whole(corpus)


def test_a_shard_without_a_record_leaves_the_folder_to_the_others(corpus: Path) -> None:
    with work_folder(corpus / "out", Shard(1, 2)) as work:
        with work_folder(corpus / "out", Shard(2, 2)):
            pass
        assert work.is_dir()
        with pytest.raises(MachineError, match=r"\(shard 1 of 2\)"):
            whole(corpus)


def test_no_shard_starts_while_the_clips_are_published(corpus: Path) -> None:
    with (
        work_folder(corpus / "out"),
        pytest.raises(MachineError, match=f"in use by process {os.getpid()} on"),
    ):
        share(corpus, "1/2")


def test_only_the_first_shard_downloads_a_corpus(tmp_path: Path) -> None:
    chosen = DataOptions(
        sample_rate=8000, corpus="yesno", root=str(tmp_path / "none"), download=True
    )

    with pytest.raises(ConfigError, match=r"only the first shard fetches it: run shard=1/4 alone"):
        plan_data(chosen, shard=Shard(2, 4))


@pytest.mark.slow
def test_four_shards_in_four_processes_at_once_and_a_merge(corpus: Path) -> None:
    whole(corpus, "whole")
    chosen = ("audio.sample_rate=16000", "data.root=root", "data.processed_dir=out")

    def start(name: str, *more: str) -> CommandProcess:
        return CommandProcess(corpus, "prepare", *chosen, *more, name=name)

    jobs = [start(str(number), f"shard={number}/4") for number in range(1, 5)]
    done = [job.wait() for job in jobs]
    assert [one.returncode for one in done] == [0, 0, 0, 0], done
    for number, one in enumerate(done, 1):
        assert f"shard {number}/4: {3 if number < 3 else 2} of 10 recordings" in one.stdout
    assert not (corpus / "out").exists()
    merged = start("merge").wait()

    assert merged.returncode == 0, merged.stderr
    assert "taken         10" in merged.stdout
    assert digests(corpus / "out") == digests(corpus / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from wavenet.data.preparation import conversion
from wavenet.data.preparation import work_dir as steps
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_shard
from wavenet.utils.sharding import Shard

done = []
def convert(*arguments):
    if len(done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(conversion.convert(*arguments))
    return done[-1]
steps.convert = convert
options = PrepareOptions(sample_rate=16000, num_workers=1)
prepare_shard(make_plan(Path("root"), Path("out"), options), Shard(1, 2))
"""


@pytest.mark.slow
def test_killed_shard_frees_its_lock_and_can_continue(corpus: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=corpus, env=environment(), check=False
    )
    assert done.returncode == -signal.SIGKILL

    again = share(corpus, "1/2")

    assert (again.own, again.before >= 1, again.finished) == (5, True, 5)
