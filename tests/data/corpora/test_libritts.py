import pytest

from wavenet.data.corpora.libritts import find
from wavenet.utils.errors import DataError

from .conftest import Plant


def test_one_part_is_enough(plant: Plant) -> None:
    root = plant("LibriTTS/dev-clean/84/121123/84_121123_000007_000001.wav")

    found = find(root / "LibriTTS" / "dev-clean")

    assert [(source.name, source.speaker) for source in found.sources] == [
        ("84/121123/84_121123_000007_000001.wav", "84")
    ]


def test_recordings_whose_text_is_there_must_be_there(plant: Plant) -> None:
    chapter = "dev-clean/84/121123"
    lines = [f"84_121123_00000{number}_000000\tSaid.\tSaid.\n" for number in range(3)]
    root = plant(
        f"{chapter}/84_121123_000001_000000.wav",
        texts={f"{chapter}/84_121123.trans.tsv": "".join(lines)},
    )

    with pytest.raises(DataError) as failure:
        find(root)

    assert (
        f"recordings missing: 2: {chapter}/84_121123_000000_000000.wav, "
        f"{chapter}/84_121123_000002_000000.wav. Unpack"
    ) in str(failure.value)


def test_speakers_and_chapters_without_recordings_are_named(plant: Plant) -> None:
    root = plant(
        "dev-clean/84/1/84_1_000000_000000.wav",
        texts={"dev-clean/84/2/README": "", "dev-clean/85/README": ""},
    )

    with pytest.raises(DataError, match=r"missing: 2: dev-clean/84/2/\*.wav, dev-clean/85/\*.wav"):
        find(root)
