import os
from pathlib import Path

import pytest

from wavenet.data.preparation.sources import find_sources
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
