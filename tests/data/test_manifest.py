import dataclasses
from pathlib import Path

import pytest

from wavenet.data.manifest import Clip, read_manifest, write_manifest
from wavenet.errors import ConfigError, DataError

CLIP = Clip(
    path="audio/é\n.wav",
    frames=10,
    sample_rate=16000,
    speaker="p225",
    split="train",
    digest="0" * 64,
    source="é\n.flac",
    start=0,
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    clips = [CLIP, dataclasses.replace(CLIP, path="audio/b\udcff\u2028.wav", split="test")]

    write_manifest(tmp_path / "manifest.jsonl", clips)

    assert read_manifest(tmp_path) == clips
    assert read_manifest(tmp_path, "test") == clips[1:]
    assert read_manifest(tmp_path, "valid") == []


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('"frames": 10', '"frames": "10"', "frames: must be a whole number, got '10'"),
        ('"frames": 10', '"frames": 0', "frames must be 1 or more, got 0"),
        ('"frames"', '"frame"', "unknown key 'frame'; did you mean 'frames'"),
        ('"train"', '"dev"', "split: must be one of train, valid, test"),
        ('"audio/', '"../', "path must lie inside the folder"),
        ('"audio/', '"/', "path must lie inside the folder"),
        (64 * "0", 64 * "x", "digest must be 64 hex digits"),
        ("{", "", "prepare the folder anew"),
        ("{", "[" * 100_000 + "{", "prepare the folder anew"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, before: str, after: str, reason: str) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, [CLIP, CLIP])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{second.replace(before, after, 1)}\n")

    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path)
    assert "manifest.jsonl, line 2" in str(caught.value)
    assert reason in str(caught.value)


def test_a_folder_without_a_manifest_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="prepare it with wavenet-prepare"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_not_text_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(b"\xff\xfe")

    with pytest.raises(DataError, match="not text"):
        read_manifest(tmp_path)


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train, valid, test, got 'dev'"):
        read_manifest(tmp_path, "dev")
