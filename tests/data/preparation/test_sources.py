import os
from pathlib import Path

import pytest

from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.sources import Source, find_sources
from wavenet.data.preparation.splits import assign_splits
from wavenet.utils.errors import DataError


def test_audio_is_found_by_suffix_in_all_folders_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("b/deep/é.FLAC", "z.wav", "b/a.opus", "a.mp3", "notes.txt", "b/x.TXT", "README"):
        (tmp_path / name).touch()

    found = find_sources(tmp_path)

    assert [source.name for source in found.sources] == [
        "a.mp3",
        "b/a.opus",
        "b/deep/é.FLAC",
        "z.wav",
    ]
    assert found.others == (("txt", 2), ("no suffix", 1))


def test_hidden_files_and_linked_folders_are_counted_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "in.wav").touch()
    (tmp_path / "._a.wav").touch()
    (tmp_path / "a.wav").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.wav").symlink_to("a.wav")

    found = find_sources(tmp_path)

    assert [source.name for source in found.sources] == ["a.wav", "link.wav"]
    assert (found.hidden, found.linked_folders) == (2, 1)


def test_a_name_that_is_not_utf8_is_a_name_like_any_other(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff.wav")).touch()

    (source,) = find_sources(tmp_path).sources

    assert source.name == "a\udcff.wav"
    assert len(source.digest) == 64


def test_folder_without_audio_names_wanted_and_found_files(tmp_path: Path) -> None:
    for name in ("a.m4a", "b.m4a", ".c.wav"):
        (tmp_path / name).touch()

    with pytest.raises(DataError, match=r"no audio: found 2 m4a, 1 hidden; looked.*\.flac.*ffmpeg"):
        find_sources(tmp_path)


def test_missing_root_and_file_as_root_have_different_messages(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="does not exist"):
        find_sources(tmp_path / "none")
    with pytest.raises(DataError, match="is not a folder"):
        find_sources(tmp_path / "file")


def sources(count: int) -> list[Source]:
    return [Source(f"{i}.wav", Path(f"{i}.wav"), 1, 1) for i in range(count)]


def test_the_shares_are_rounded_and_the_rest_trains() -> None:
    splits = assign_splits(sources(50), PrepareOptions(sample_rate=1, test_fraction=0.1))

    counts = {name: list(splits.values()).count(name) for name in ("train", "valid", "test")}
    assert counts == {"train": 43, "valid": 2, "test": 5}


def test_the_split_depends_on_names_alone() -> None:
    options = PrepareOptions(sample_rate=16000)
    changed = [Source(s.name, s.path, 99, 99) for s in reversed(sources(30))]

    assert assign_splits(sources(30), options) == assign_splits(changed, options)


def test_a_fraction_takes_at_least_one_and_zero_takes_none() -> None:
    three = assign_splits(sources(3), PrepareOptions(sample_rate=1))
    one = assign_splits(
        sources(1), PrepareOptions(sample_rate=1, test_fraction=0, valid_fraction=0)
    )

    assert sorted(three.values()) == ["test", "train", "valid"]
    assert list(one.values()) == ["train"]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_recordings_are_refused_with_advice(count: int) -> None:
    with pytest.raises(DataError, match=r"cut one into several.*data.test_fraction=0"):
        assign_splits(sources(count), PrepareOptions(sample_rate=16000))
