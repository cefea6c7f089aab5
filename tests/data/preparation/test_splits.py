"""One's own split: folders `train`, `valid` and `test`, or a list."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavenet.data.manifest import read_manifest
from wavenet.data.options import DataOptions
from wavenet.data.preparation.prepare import ensure_prepared
from wavenet.utils.errors import ConfigError, DataError, WavenetError

from .conftest import Record, Samples

SPLITS = {"train/a.flac": "train", "train/b/c.flac": "train", "valid/b/d.flac": "valid"}
SPLITS |= {"test/e f.flac": "test"}
Prepare = Callable[..., Path]


@pytest.fixture
def prepare(
    record: Record, noise: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Prepare:
    """Prepare four recordings in folders named after splits; `text` is that of a list."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(SPLITS):
        record(name, noise / (number + 2))

    def ensure(text: str | None = None, **options: Any) -> Path:
        if text is not None:
            Path("list.txt").write_text(text)
            options["split_list"] = "list.txt"
        root = str(tmp_path / "root")
        return ensure_prepared(DataOptions(sample_rate=16000, root=root, **options))

    return ensure


def splits_of(folder: Path) -> dict[str, str]:
    return {clip.source: clip.split for clip in read_manifest(folder)}


def test_folders_give_the_splits_and_speakers_lie_below_them(prepare: Prepare) -> None:
    folder = prepare(split_from_folder=True, speaker_from_folder=True)

    assert splits_of(folder) == SPLITS
    speakers = {clip.source: clip.speaker for clip in read_manifest(folder)}
    assert speakers == dict(zip(SPLITS, ["", "b", "b", ""], strict=True))


def test_a_list_gives_the_splits_and_the_others_train(prepare: Prepare) -> None:
    folder = prepare("# mine\n\nvalid train/a.flac\n test\t ./test/e f.flac \n")

    assert splits_of(folder) == {**SPLITS, "train/a.flac": "valid", "valid/b/d.flac": "train"}


def test_another_split_of_the_same_recordings_is_another_folder(prepare: Prepare) -> None:
    lists = ("valid train/a.flac\ntest test/e f.flac", "test train/a.flac\nvalid test/e f.flac")
    folders = [prepare(), *(prepare(text) for text in lists), prepare(split_from_folder=True)]

    assert len({*folders}) == 4
    assert prepare(lists[0]) == folders[1], "it is prepared already"


def test_pieces_of_a_recording_stay_in_its_split(prepare: Prepare) -> None:
    folder = prepare(split_from_folder=True, split_top_db=20.0)

    assert splits_of(folder) == SPLITS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "valid train/a.flac\ntest train/a.flac",
            "line 2: train/a.flac is in test, and in valid (line 1)",
        ),
        (
            "valid train/a.wav",
            "line 1: train/a.wav is not below the root; did you mean 'train/a.flac'?",
        ),
        ("dev train/a.flac", "line 1: 'dev train/a.flac' is not train, valid or test and a name"),
        ("valid", "line 1: 'valid' is not train, valid or test and a name"),
        (
            "train train/a.flac\nvalid valid/b/d.flac\ntest test/e f.flac",
            "train/b/c.flac is not listed: without lines of train, all that is not listed trains",
        ),
        (
            "test train/a.flac",
            "the split valid has no usable recording: put some into data.split_list for valid, or",
        ),
    ],
    ids=["twice", "unknown", "split", "no name", "incomplete", "empty"],
)
def test_a_wrong_list_is_an_error(prepare: Prepare, text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare(text)

    assert words in str(caught.value)
    assert not Path("prepared").exists()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"split_list": "absent"}, DataError, "data.split_list=absent does not exist"),
        (
            {"split_list": "list", "split_from_folder": True},
            ConfigError,
            "data.split_list and data.split_from_folder both give the splits",
        ),
    ],
    ids=["absent", "both"],
)
def test_contradictions_are_errors(
    prepare: Prepare, options: dict[str, Any], error: type[WavenetError], words: str
) -> None:
    with pytest.raises(error, match=words):
        prepare(**options)


def test_a_recording_outside_of_the_folders_is_named(
    prepare: Prepare, record: Record, noise: Samples
) -> None:
    record("dev/x.flac", noise)

    with pytest.raises(
        DataError, match=r"are in none of the folders train, valid, test.*\n.*dev/x"
    ):
        prepare(split_from_folder=True)


def test_an_empty_split_is_an_error_unless_its_fraction_is_zero(prepare: Prepare) -> None:
    Path("root/test/e f.flac").unlink()

    with pytest.raises(DataError, match="split test has no usable recording: put some into the"):
        prepare(split_from_folder=True)
    folder = prepare(split_from_folder=True, test_fraction=0.0)

    assert {*splits_of(folder).values()} == {"train", "valid"}
