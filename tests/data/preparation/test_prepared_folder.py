"""A prepared folder is named by its data, never replaced, and remembered by its runs."""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from wavenet.config import AudioConfig, ScoreConfig
from wavenet.data.manifest import read_manifest
from wavenet.data.options import DataOptions
from wavenet.data.preparation.prepare import (
    ensure_prepared,
    ensure_same_data,
    plan_data,
)
from wavenet.utils.errors import ConfigError, DataError

from .conftest import Record, Samples, content, run


def test_other_options_are_refused_and_both_are_described(corpus: Path) -> None:
    run(corpus)
    before = content(corpus / "out")

    with pytest.raises(ConfigError) as caught:
        run(corpus, speaker_from_folder=True)

    assert "out holds clips of other options (there: " in str(caught.value)
    assert "6 recordings, speaker_from_folder=false; now: " in str(caught.value)
    assert "6 recordings, speaker_from_folder=true) and is left unchanged" in str(caught.value)
    assert content(corpus / "out") == before


def test_a_folder_of_another_format_is_refused_and_unchanged(corpus: Path) -> None:
    run(corpus)
    account = corpus / "out" / "prepare.json"
    account.write_text(account.read_text().replace('"format": ', '"format": 9'))
    before = content(corpus / "out")

    with pytest.raises(ConfigError, match=r"was prepared in format 9\d, this version writes"):
        run(corpus)

    assert content(corpus / "out") == before


def test_other_recordings_are_refused_and_both_are_described(
    corpus: Path, record: Record, noise: Samples
) -> None:
    run(corpus)
    before = content(corpus / "out")
    record("new.wav", noise)

    with pytest.raises(
        ConfigError, match=r"of other recordings \(there: \w{8}, 6 .*: \w{8}, 7 rec"
    ):
        run(corpus)
    assert content(corpus / "out") == before


def test_a_damaged_output_is_refused_until_it_is_removed(corpus: Path) -> None:
    run(corpus)
    whole = content(corpus / "out")
    (corpus / "out" / read_manifest(corpus / "out")[0].path).write_bytes(b"RIFF")

    with pytest.raises(
        DataError, match=r"out is damaged \(audio/p0/0.flac.wav has 4 bytes\).*remov"
    ):
        run(corpus)
    shutil.rmtree(corpus / "out")
    assert not run(corpus).already_prepared
    assert content(corpus / "out") == whole


def data_options(folder: Path, **changes: Any) -> DataOptions:
    return DataOptions(sample_rate=16000, root=str(folder / "root"), num_workers=2, **changes)


def test_two_option_sets_are_prepared_side_by_side(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    plain = ensure_prepared(data_options(corpus))
    before = content(plain)

    named = ensure_prepared(data_options(corpus, speaker_from_folder=True))

    assert sorted(path.name for path in Path("prepared").iterdir()) == sorted(
        (plain.name, named.name)
    )
    assert all(re.fullmatch("root-16000-[0-9a-f]{8}", path.name) for path in (plain, named))
    assert content(plain) == before
    assert ensure_prepared(data_options(corpus)) == plain
    assert read_manifest(plain).identity != read_manifest(named).identity


def test_a_run_keeps_its_clips_when_its_recordings_change(
    corpus: Path, record: Record, noise: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    folder = ensure_prepared(data_options(corpus))
    identity = read_manifest(folder).identity
    its_own = data_options(corpus).at(folder)
    record("new.wav", noise)

    assert ensure_same_data(its_own, identity, Path("run")) == folder.resolve()
    with pytest.raises(DataError) as caught:
        ensure_same_data(data_options(corpus), identity, Path("run"))

    assert f"but run was trained with {identity}" in str(caught.value)
    assert "holds the clips " in str(caught.value)
    assert "5 train, 1 valid and 1 test clips" in str(caught.value)
    assert read_manifest(folder).identity == identity


def test_the_same_recordings_elsewhere_are_the_same_data(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    identity = read_manifest(ensure_prepared(data_options(corpus))).identity
    shutil.copytree(corpus / "root", corpus / "moved" / "root")  # without the times

    folder = ensure_same_data(data_options(corpus / "moved"), identity, Path("run"))

    assert read_manifest(folder).identity == identity


def test_a_score_that_no_recording_has_is_refused_before_any_work(corpus: Path) -> None:
    audio = AudioConfig(score=ScoreConfig(sample_rate=16000, hop_length=80))
    options = data_options(corpus, processed_dir=str(corpus / "out"))

    with pytest.raises(ConfigError, match="no recording .* has a score: set data.corpus"):
        ensure_prepared(options, audio)
    assert [path.name for path in corpus.iterdir()] == ["root"]
    for path in (corpus / "root").rglob("*.flac"):
        path.with_suffix(".csv").write_text("0,0.25,60\n")
    scored = dataclasses.replace(options, corpus="chorales")
    assert ensure_prepared(scored, audio) == corpus / "out"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"use_speakers": True},
            ConfigError,
            "names its speaker: set data.speaker_from_folder=true",
        ),
        ({"test_fraction": 0.5, "valid_fraction": 0.49}, DataError, "6 recordings are too few"),
    ],
)
def test_impossible_options_fail_before_any_work(
    nasty: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    for path in (nasty / "root").glob("*.*"):
        path.unlink()
    (nasty / "root" / "p0" / "bad.wav").write_text("reading this would be an error")
    if "test_fraction" in changes:
        (nasty / "root" / "p0" / "bad.wav").unlink()

    with pytest.raises(error, match=message):
        plan_data(data_options(nasty, processed_dir=str(nasty / "out"), **changes))
    assert [path.name for path in nasty.iterdir()] == ["root"]
