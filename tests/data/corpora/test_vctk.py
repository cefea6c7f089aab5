import pytest

from wavenet.data.corpora.vctk import find
from wavenet.utils.errors import DataError

from .conftest import Plant


def test_sentence_is_taken_once_from_the_first_microphone(plant: Plant) -> None:
    audio = "wav48_silence_trimmed"
    root = plant(
        f"{audio}/p225/p225_001_mic1.flac",
        f"{audio}/p225/p225_001_mic2.flac",
        f"{audio}/p225/p225_002_mic2.flac",
        f"{audio}/p225/p225_003.flac",
    )

    found = find(root)

    assert [source.name for source in found.sources] == [
        f"{audio}/p225/p225_001_mic1.flac",
        f"{audio}/p225/p225_002_mic2.flac",
    ]
    assert found.others == (("flac", 2),)


def test_the_older_version_is_found_too(plant: Plant) -> None:
    root = plant(
        "VCTK-Corpus/wav48/p225/p225_001.wav",
        "VCTK-Corpus/wav48/p376/p376_294.wav",
        texts={
            "VCTK-Corpus/wav48/p376/p376_295.raw": "",
            "VCTK-Corpus/speaker-info.txt": "ID  AGE  GENDER\n225  23  F\n376  22  M\n",
        },
    )

    found = find(root)

    assert [(source.name[-12:], source.speaker) for source in found.sources] == [
        ("p225_001.wav", "p225"),
        ("p376_294.wav", "p376"),
    ]
    assert ("raw", 1) in found.others


def test_speakers_without_audio_are_named(plant: Plant) -> None:
    root = plant(
        "wav48/p225/p225_001.wav",
        texts={
            "wav48/p226/README": "",
            "txt/p227/p227_001.txt": "",
            "speaker-info.txt": "ID  AGE\n225  23  F\n228  22  F\n",
        },
    )

    with pytest.raises(DataError, match=r"wav48/ has no recording: 3: p226, p227, p228\. Unpack"):
        find(root)


def test_a_folder_of_audio_without_any_is_incomplete(plant: Plant) -> None:
    root = plant(texts={"wav48/README": ""})

    with pytest.raises(DataError, match="wav48/ has no recording"):
        find(root)
