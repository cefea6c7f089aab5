import dataclasses
import os
import shutil
import struct
import zlib
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from wavenet.data.manifest import (
    Clip,
    Manifest,
    digests_of,
    frames_of,
    read_manifest,
    speakers_of,
    write_manifest,
)
from wavenet.utils.errors import ConfigError, DataError

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

    assert list(read_manifest(tmp_path)) == clips
    assert list(read_manifest(tmp_path, "test")) == clips[1:]
    assert not read_manifest(tmp_path, "valid")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('"frames": 10', '"frames": "10"', "frames: must be a whole number, got '10'"),
        ('"frames": 10', '"frames": 0', "frames must be 1 or more, got 0"),
        ('"frames": 10', f'"frames": {2**63}', "frames must be under 2**63"),
        ('"frames"', '"frame"', "unknown key 'frame'; did you mean 'frames'"),
        ('"train"', '"dev"', "split: must be one of train, valid, test"),
        ('"audio/', '"../', "path must lie inside the folder"),
        ('"audio/', '"/', "path must lie inside the folder"),
        (64 * "0", 64 * "x", "digest must be 64 hex digits"),
        ("{", "", "prepare the folder again"),
        ("{", "[" * 100_000 + "{", "prepare the folder again"),
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


MANY = 2_000
SPLIT_OF = ("train", "train", "valid", "train", "test", "train", "train")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip]]:
    """Return a folder whose manifest lists 2,000 clips, and these."""
    folder = tmp_path_factory.mktemp("many")
    clips = [
        Clip(
            path=f"audio/{n}.wav",
            frames=1 + n * 7 % 1000,
            sample_rate=16000,
            speaker=("", "zoë", "anna")[n % 3],
            split=SPLIT_OF[n % 7],  # type: ignore[arg-type]
            digest=f"{n:064x}",
            source=f"{n}.flac",
            start=0,
        )
        for n in range(MANY)
    ]
    write_manifest(folder / "manifest.jsonl", clips)
    return folder, clips


def copied(many: tuple[Path, list[Clip]], folder: Path) -> Path:
    """Return a copy of the manifest and its index with another time, not longer than the disk's."""
    for name in ("manifest.jsonl", "manifest.index"):
        shutil.copyfile(many[0] / name, folder / name)
    os.utime(folder / "manifest.jsonl", ns=(1, 1))
    return folder


@pytest.mark.parametrize("split", [None, "train", "valid", "test"])
def test_columns_equal_the_clips(many: tuple[Path, list[Clip]], split: str | None) -> None:
    folder, clips = many
    wanted = [clip for clip in clips if split in (None, clip.split)]

    manifest = read_manifest(folder, split)

    assert len(manifest) == len(wanted)
    assert list(manifest) == wanted
    assert manifest[-1] == wanted[-1]
    for found, listed in ((manifest, wanted), (manifest[3:50], wanted[3:50])):
        np.testing.assert_array_equal(found.frames, frames_of(listed))
        np.testing.assert_array_equal(found.speakers, speakers_of(listed))
        np.testing.assert_array_equal(found.digests, digests_of(listed))
        assert found.names == ("anna", "zoë")
    assert manifest.sample_rates == (16000,)
    assert [clip.path for clip in manifest[5:0:-2]] == [clip.path for clip in wanted[5:0:-2]]
    np.testing.assert_array_equal(manifest[5:0:-2].frames, frames_of(wanted[5:0:-2]))
    with pytest.raises(IndexError):
        manifest[len(wanted)]


def test_names_are_those_of_the_split(tmp_path: Path) -> None:
    clips = [CLIP, dataclasses.replace(CLIP, speaker="a", split="test")]
    write_manifest(tmp_path / "manifest.jsonl", clips)

    assert read_manifest(tmp_path, "train").names == ("p225",)
    assert read_manifest(tmp_path).names == ("a", "p225")


def test_reopened_manifest_parses_lines_lazily(
    many: tuple[Path, list[Clip]], tmp_path: Path
) -> None:
    path = copied(many, tmp_path) / "manifest.jsonl"
    text = path.read_bytes()
    read_manifest(tmp_path)  # by the digest: the copy's time is another
    path.write_bytes(text.replace(b"{", b"[", 1))
    os.utime(path, ns=(1, 1))

    manifest = read_manifest(tmp_path)

    assert manifest[1] == many[1][1]
    with pytest.raises(DataError, match=r"manifest.jsonl, line 1: .*prepare the folder again"):
        manifest[0]


def test_a_copied_folder_keeps_its_index(many: tuple[Path, list[Clip]], tmp_path: Path) -> None:
    index = copied(many, tmp_path) / "manifest.index"
    before = index.stat().st_ino

    assert list(read_manifest(tmp_path)) == many[1]
    assert index.stat().st_ino == before
    assert index.stat().st_mtime_ns == 1


def test_edited_manifest_of_the_same_size_is_indexed_again(
    many: tuple[Path, list[Clip]], tmp_path: Path
) -> None:
    path = copied(many, tmp_path) / "manifest.jsonl"
    before = read_manifest(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"frames": 8,', b'"frames": 9,', 1))

    after = read_manifest(tmp_path)

    assert (before.frames[1], after.frames[1], after[1].frames) == (8, 9, 9)
    assert before.digest != after.digest
    with pytest.raises(DataError, match=r"line 2, does not match.*remove manifest\.index"):
        before[1]


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_damaged_index_is_rebuilt(many: tuple[Path, list[Clip]], tmp_path: Path, keep: int) -> None:
    index = copied(many, tmp_path) / "manifest.index"
    whole = index.read_bytes()
    index.write_bytes(whole[:keep])
    os.utime(index, ns=(1, 1))

    assert list(read_manifest(tmp_path)) == many[1]
    assert index.read_bytes() == whole


def test_index_of_another_format_is_rebuilt(many: tuple[Path, list[Clip]], tmp_path: Path) -> None:
    index = copied(many, tmp_path) / "manifest.index"
    whole = index.read_bytes()
    other = whole[:-4].replace(rb"\"format\": 2", rb"\"format\": 0")
    index.write_bytes(other + struct.pack("<I", zlib.crc32(other)))
    os.utime(index, ns=(1, 1))

    read_manifest(tmp_path)

    assert index.read_bytes() == whole


def test_index_stays_in_memory_if_it_cannot_be_written(
    many: tuple[Path, list[Clip]], tmp_path: Path
) -> None:
    index = copied(many, tmp_path) / "manifest.index"
    index.unlink()
    index.mkdir()  # nobody writes here, not even root

    manifest = read_manifest(tmp_path, "valid")

    assert list(manifest) == list(read_manifest(many[0], "valid"))
    assert list(sent(manifest)) == list(manifest)


def sent(manifest: Manifest) -> Manifest:
    """Return what another process gets."""
    found = ForkingPickler.loads(ForkingPickler.dumps(manifest))
    assert isinstance(found, Manifest)
    return found


def test_manifest_is_pickled_as_its_path(
    many: tuple[Path, list[Clip]],
) -> None:
    manifest = read_manifest(many[0], "train")[10:]

    assert len(ForkingPickler.dumps(manifest)) < 1000
    assert list(sent(manifest)) == list(manifest)


def test_another_process_refuses_an_index_that_was_replaced(
    many: tuple[Path, list[Clip]], tmp_path: Path
) -> None:
    manifest = read_manifest(copied(many, tmp_path))
    message = ForkingPickler.dumps(manifest)
    write_manifest(tmp_path / "manifest.jsonl", many[1][:5])

    with pytest.raises(DataError, match=r"manifest.index has changed: start again"):
        ForkingPickler.loads(message)


def test_an_empty_manifest_has_no_clips(tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.jsonl", [])

    manifest = read_manifest(tmp_path)

    assert not manifest
    assert list(manifest) == []
    assert manifest.names == ()
    assert not read_manifest(tmp_path, "train").digests.size


def test_edit_with_unchanged_time_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(
        path, [dataclasses.replace(CLIP, path=name, split="train") for name in ("a.wav", "b.wav")]
    )
    before = path.stat()
    path.write_text(path.read_text().replace('"train"', '"valid"', 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(DataError, match="does not match its index"):
        list(read_manifest(tmp_path, "train"))
