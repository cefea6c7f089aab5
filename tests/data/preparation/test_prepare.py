import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import environment
from wavenet.data.manifest import read_manifest
from wavenet.data.preparation.work_dir import work_folder
from wavenet.features.score import read_notes
from wavenet.utils.errors import ConfigError, DataError, MachineError

from .conftest import Record, Samples, content, run


def test_output_holds_clips_manifest_and_summary(corpus: Path) -> None:
    summary = run(corpus, speaker_from_folder=True)

    clips = read_manifest(corpus / "out")
    assert [clip.source for clip in clips] == [
        f"p{i}/{n}.flac" for i in (0, 1) for n in (i, i + 2, i + 4)
    ]
    assert {clip.speaker for clip in clips} == {"p0", "p1"}
    assert sorted(path.name for path in (corpus / "out").iterdir()) == [
        "audio",
        "manifest.index",
        "manifest.jsonl",
        "prepare.json",
    ]
    assert [(total.split, total.files) for total in summary.splits] == [
        ("train", 4),
        ("valid", 1),
        ("test", 1),
    ]
    assert sorted(path.name for path in corpus.iterdir()) == ["out", "root"]


def test_all_bad_recordings_are_listed_at_once_and_nothing_is_written(nasty: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(nasty)

    message = str(caught.value)
    for name, words in {
        "silent.wav": "data.allow_silent=true",
        "stereo.wav": "2 channels, wanted 1 (data.mono=true)",
        "44100.wav": "44100 Hz, wanted 16000 Hz (data.resample=true)",
        "short.wav": "0.010 s long",
        "loud.wav": "data.clip=true",
        "nan.wav": "nan at frame 77 of channel 0",
        "cut.wav": "data.allow_truncated=true",
        "cut.flac": "data.allow_truncated=true",
        "empty.wav": "0 bytes",
        "text.ogg": "no audio",
        "pipe.wav": "a pipe",
    }.items():
        (line,) = [line for line in message.splitlines() if line.startswith(f"  {name}:")]
        assert words in line
    assert [path.name for path in nasty.iterdir()] == ["root"]


def test_a_long_list_is_cut_and_every_repair_is_counted(
    record: Record, noise: Samples, tmp_path: Path
) -> None:
    for number in range(30):
        record(f"{number}\n\x1b.wav", noise[:2000], 8000)

    with pytest.raises(DataError) as caught:
        run(tmp_path)

    message = str(caught.value)
    assert len(message.splitlines()) <= 20
    assert "and 18 more" in message
    assert "data.resample=true (30)" in message
    assert "\x1b" not in message


def test_skipped_recordings_are_counted_and_named(nasty: Path) -> None:
    summary = run(nasty, skip_invalid=True)

    assert len(read_manifest(nasty / "out")) == 6
    assert len(summary.left_out) == 11
    assert "left out: 11" in summary.table()
    assert "and 1 more" in summary.table()


def test_all_repairs_together_skip_only_unrepairable_recordings(nasty: Path) -> None:
    repairs = ("resample", "mono", "clip", "nan_to_num", "allow_truncated", "allow_silent")
    options: dict[str, Any] = dict.fromkeys((*repairs, "skip_invalid"), True)
    summary = run(nasty, **options)

    assert summary.left_out.keys() == {
        "short.wav",
        "empty.wav",
        "text.ogg",
        "pipe.wav",
    }
    assert summary.repairs.keys() == set(repairs)
    assert (summary.silent, summary.clipped > 0) == (1, True)


def test_skipping_all_is_an_error(record: Record, noise: Samples, tmp_path: Path) -> None:
    for number in range(3):
        record(f"{number}.wav", noise, 8000)

    with pytest.raises(DataError, match="no recording is left"):
        run(tmp_path, skip_invalid=True)


def test_content_of_another_format_is_accepted_and_named(
    corpus: Path, record: Record, noise: Samples
) -> None:
    record("really.wav", noise / 2, format="MP3")

    assert "really.wav: is MP3, not what its suffix says" in run(corpus).table()


def test_upsampled_recordings_are_named_also_when_prepared_before(
    corpus: Path, record: Record, noise: Samples
) -> None:
    record("low.wav", noise, 8000)
    record("high.wav", noise, 44100)

    summary, again = run(corpus, resample=True), run(corpus, resample=True)

    assert summary.upsampled == again.upsampled == {"low.wav": 8000}
    assert again.line().splitlines()[1].startswith("warning: 1 of 8 recordings are upsampled to 16")


def test_unusual_file_names_are_accepted(corpus: Path, record: Record, noise: Samples) -> None:
    names = ["é ü/日本.wav", "new\nline\x1b[31m.wav", "é" * 125 + ".flac", "a=b,c#[d]{e}$~.wav"]
    for name in names:
        record(name, noise + np.float32(0.1), subtype="PCM_16")
    os.rename(record("x.wav", noise), os.fsencode(corpus) + b"/root/\xff.wav")

    summary = run(corpus)

    clips = read_manifest(corpus / "out")
    assert {*names, "\udcff.wav"} <= {clip.source for clip in clips}
    assert all((corpus / "out" / clip.path).is_file() for clip in clips)
    assert all(line.isprintable() for line in summary.table().splitlines())


def test_pieces_of_one_recording_stay_in_one_split(
    record: Record, noise: Samples, tmp_path: Path
) -> None:
    speech = np.concatenate([noise, np.zeros(12000, np.float32)] * 3)
    for number in range(8):
        record(f"{number}.wav", speech)

    run(tmp_path, split_top_db=40.0, valid_fraction=0.25, test_fraction=0.25)

    clips = read_manifest(tmp_path / "out")
    splits = {(clip.source, clip.split) for clip in clips}
    assert (len(clips), len(splits)) == (24, 8)


def test_a_second_run_returns_the_same_summary_at_once(corpus: Path) -> None:
    first = run(corpus)
    before = content(corpus / "out")
    times = {path: path.stat().st_mtime_ns for path in (corpus / "out").rglob("*")}

    second = run(corpus)

    assert "already prepared" in second.table()
    assert second.table().splitlines()[1:] == first.table().splitlines()
    assert content(corpus / "out") == before
    assert times == {path: path.stat().st_mtime_ns for path in (corpus / "out").rglob("*")}


def test_interrupted_preparation_continues_to_the_same_result(
    corpus: Path, record: Record, noise: Samples
) -> None:
    record("p0/long.flac", np.tile(noise, 4))  # after three others; too long for the disk
    run(corpus, "whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(MachineError):
            run(corpus)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    work = corpus / ".out.partial"
    finished = {path: path.stat().st_mtime_ns for path in work.rglob("*.wav")}
    damaged = min(finished)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (work / "audio" / "stray.wav").write_bytes(b"left over")

    run(corpus)

    again = {path.name: path.stat().st_mtime_ns for path in (corpus / "out").rglob("*.wav")}
    assert len(finished) >= 2
    assert {p.name for p, time in finished.items() if again[p.name] != time} == {damaged.name}
    assert content(corpus / "out") == content(corpus / "whole")
    assert sorted(path.name for path in corpus.iterdir()) == ["out", "root", "whole"]


@pytest.mark.parametrize(("size", "stays"), [(8_000, False), (40_000, True)])
def test_a_full_disk_leaves_finished_recordings_only_and_says_so(
    corpus: Path,
    record: Record,
    noise: Samples,
    caplog: pytest.LogCaptureFixture,
    size: int,
    stays: bool,
) -> None:
    record("p0/long.flac", np.tile(noise, 4))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with caplog.at_level("INFO", "wavenet"), pytest.raises(MachineError):
            run(corpus)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    work = corpus / ".out.partial"
    assert work.exists() is stays
    assert any(line.startswith(f"{work} stays, with ") for line in caplog.messages) is stays


KILLED = """
import os, signal
from pathlib import Path
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips

os.rename = lambda old, new: os.kill(os.getpid(), signal.SIGKILL)
options = PrepareOptions(sample_rate=16000, num_workers=2, skip_invalid=True)
prepare_clips(make_plan(Path("root"), Path("out"), options))
"""


@pytest.mark.slow
def test_a_run_killed_while_it_publishes_is_continued_and_leaves_nothing(corpus: Path) -> None:
    run(corpus, "whole", skip_invalid=True)
    killed = [sys.executable, "-c", KILLED]
    done = subprocess.run(killed, cwd=corpus, env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (corpus / "out").exists()
    ready = corpus / ".out.partial" / "ready"
    times = sorted(path.stat().st_mtime_ns for path in ready.rglob("*.wav"))
    assert len(times) == 6

    run(corpus, skip_invalid=True)

    assert content(corpus / "out") == content(corpus / "whole")
    assert sorted(path.stat().st_mtime_ns for path in (corpus / "out").rglob("*.wav")) == times
    assert sorted(path.name for path in corpus.iterdir()) == ["out", "root", "whole"]


def test_finished_clips_are_reused_for_the_same_options_only(
    corpus: Path, record: Record, noise: Samples
) -> None:
    run(corpus, "plain")
    shutil.copytree(corpus / "plain" / "audio", corpus / ".out.partial" / "audio")

    run(corpus, split_top_db=40.0)

    assert all(clip.path.endswith(".0001.wav") for clip in read_manifest(corpus / "out"))
    assert len(list((corpus / "out").rglob("*.wav"))) == 6


def test_foreign_folder_is_left_alone(corpus: Path) -> None:
    (corpus / "out").mkdir()
    (corpus / "out" / "thesis.txt").touch()

    with pytest.raises(ConfigError, match="choose another place"):
        run(corpus)
    assert content(corpus / "out") == {"thesis.txt": b""}


def test_an_output_that_cannot_be_written_names_its_key(corpus: Path) -> None:
    (corpus / "file").touch()

    with pytest.raises(MachineError, match=r"/file/.*: Not a directory: set data\.processed_dir"):
        run(corpus, "file/out")


@pytest.mark.parametrize("output", ["root", "root/out", "."])
def test_output_and_root_inside_each_other_are_refused(corpus: Path, output: str) -> None:
    with pytest.raises(ConfigError, match="inside each other"):
        run(corpus, output)


def test_one_recording_can_train_when_nothing_is_held_out(
    record: Record, noise: Samples, tmp_path: Path
) -> None:
    record("a.wav", noise)

    with pytest.raises(DataError, match=r"data\.test_fraction=0"):
        run(tmp_path)
    summary = run(tmp_path, valid_fraction=0.0, test_fraction=0.0)
    assert [total.files for total in summary.splits] == [1, 0, 0]


def test_recordings_without_a_long_enough_piece_are_named(
    corpus: Path, record: Record, noise: Samples
) -> None:
    clicks = np.zeros(32000, np.float32)
    clicks[::8000] = 0.5
    record("clicks.wav", clicks)

    summary = run(corpus, split_top_db=40.0, min_seconds=0.3)

    assert summary.left_out == {"clicks.wav": "no piece is as long as min_seconds"}
    with pytest.raises(DataError, match="gave no clip"):
        run(corpus, "none", split_top_db=1e-3, min_seconds=0.4)


def test_parallel_preparations_use_different_work_folders(corpus: Path) -> None:
    with work_folder(corpus / "out"), pytest.raises(MachineError, match="in use by process"):
        run(corpus)


def test_summary_stores_the_options_without_num_workers(corpus: Path) -> None:
    run(corpus)

    account = json.loads((corpus / "out" / "prepare.json").read_text())

    assert account["options"]["sample_rate"] == 16000
    assert "num_workers" not in account["options"]
    assert run(corpus).already_prepared


def test_score_is_cut_to_its_clip(record: Record, noise: Samples, tmp_path: Path) -> None:
    for number in range(3):
        silence = np.zeros(16000, np.float32)
        record(f"{number}.wav", np.concatenate([silence, noise]))
        (tmp_path / "root" / f"{number}.csv").write_text("0.5,0.75,60\n1.125,1.25,62\n")

    run(tmp_path, corpus="chorales", trim_top_db=20.0)

    out = tmp_path / "out"
    clips = read_manifest(out)
    assert [clip.notes for clip in clips] == [f"notes/{n}.wav.csv" for n in range(3)]
    for clip in clips:
        (note,) = read_notes(out / clip.notes)
        assert note.onset == pytest.approx(1.125 - clip.start / 16000, abs=1e-5)
        assert note.pitch == 62


def test_a_changed_score_is_other_data(record: Record, noise: Samples, tmp_path: Path) -> None:
    for number in range(3):
        record(f"{number}.wav", noise)
        (tmp_path / "root" / f"{number}.csv").write_text("0,0.25,60\n")
    run(tmp_path, corpus="chorales")
    assert run(tmp_path, corpus="chorales").already_prepared
    (tmp_path / "root" / "1.csv").write_text("0,0.25,61\n")

    with pytest.raises(ConfigError, match="holds clips of other recordings"):
        run(tmp_path, corpus="chorales")
    assert not run(tmp_path, "again", corpus="chorales").already_prepared
    found = {
        name: [
            read_notes(tmp_path / name / c.notes)[0].pitch for c in read_manifest(tmp_path / name)
        ]
        for name in ("out", "again")
    }
    assert found == {"out": [60, 60, 60], "again": [60, 61, 60]}


def test_corpus_provides_speakers(record: Record, noise: Samples, tmp_path: Path) -> None:
    for speaker in ("bdl", "slt"):
        for number in range(2):
            record(f"cmu_us_{speaker}_arctic/wav/{number}.wav", noise)

    run(tmp_path, corpus="cmu_arctic")

    found = {(clip.speaker, clip.source.split("_")[2]) for clip in read_manifest(tmp_path / "out")}
    assert found == {("bdl", "bdl"), ("slt", "slt")}


def test_a_get_corpus_no_name_is_refused_with_the_nearest(corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"'ljspech' is unknown; did you mean 'ljspeech'"):
        run(corpus, corpus="ljspech")
