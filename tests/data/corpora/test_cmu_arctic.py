import pytest

from wavenet.data.corpora.cmu_arctic import find
from wavenet.utils.errors import DataError

from .conftest import Plant


def test_folder_of_one_speaker_is_enough(plant: Plant) -> None:
    root = plant(
        "cmu_us_slt_arctic/wav/arctic_a0001.wav", "cmu_us_slt_arctic/orig/arctic_a0001.wav"
    )

    found = find(root / "cmu_us_slt_arctic")

    assert [(source.name, source.speaker) for source in found.sources] == [
        ("wav/arctic_a0001.wav", "slt")
    ]
    assert found.others == (("wav", 1),)


def test_speakers_are_found_without_a_folder_around_them(plant: Plant) -> None:
    root = plant("cmu_us_slt_arctic/wav/a.wav", "cmu_us_bdl_arctic/wav/a.wav", "other/wav/a.wav")

    assert [source.speaker for source in find(root).sources] == ["bdl", "slt"]


def test_a_speaker_without_recordings_is_named(plant: Plant) -> None:
    root = plant("cmu_us_slt_arctic/wav/a.wav", "cmu_us_bdl_arctic/orig/a.wav")

    with pytest.raises(DataError, match="of whom wav/ has no recording: 1: bdl"):
        find(root)
