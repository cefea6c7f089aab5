import pytest

from wavenet.data.corpora.ljspeech import find
from wavenet.utils.errors import DataError

from .conftest import Plant


def test_recordings_that_the_metadata_names_must_be_there(plant: Plant) -> None:
    lines = [f"LJ001-{number:04}|a|b" for number in range(1, 11)]
    root = plant("wavs/LJ001-0001.wav", texts={"metadata.csv": "\n".join(lines)})

    with pytest.raises(DataError) as failure:
        find(root)

    assert "of 10 recordings in metadata.csv, wavs/ lacks 9: LJ001-0002, " in str(failure.value)
    assert "LJ001-0007 and 3 more" in str(failure.value)
    assert "data.corpus=folder" in str(failure.value)


def test_a_bar_inside_quotes_is_a_bar(plant: Plant) -> None:
    root = plant("wavs/LJ001-0001.wav", texts={"metadata.csv": 'LJ001-0001|"a|"b\n'})

    assert len(find(root).sources) == 1


def test_metadata_without_lines_is_no_corpus(plant: Plant) -> None:
    root = plant("wavs/LJ001-0001.wav", texts={"metadata.csv": "\n"})

    with pytest.raises(DataError, match="metadata.csv names no recording"):
        find(root)


def test_incomplete_corpus_is_an_error(plant: Plant) -> None:
    root = plant("LJSpeech-1.1/wavs/LJ001-0001.wav")

    with pytest.raises(DataError, match=r"LJSpeech-1.1 does not .* found wavs; wanted metadata"):
        find(root)
