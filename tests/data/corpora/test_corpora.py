import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from wavenet.data.corpora import CORPORA, get_corpus
from wavenet.data.options import DataOptions
from wavenet.utils.errors import ConfigError, DataError

from .conftest import Plant

YESNO = ["_".join(word) + ".wav" for word in itertools.product("01", repeat=8)][:60]
SMALL = {  # corpus: its folder, its recordings and their speakers, its texts
    "ljspeech": (
        "LJSpeech-1.1",
        {"wavs/LJ001-0001.wav": "LJ", "wavs/LJ001-0002.wav": "LJ"},
        {"metadata.csv": "LJ001-0001|Printing|Printing\nLJ001-0002|in|in\n", "README": ""},
    ),
    "vctk": (
        "VCTK-Corpus-0.92",
        {
            "wav48_silence_trimmed/p225/p225_001_mic1.flac": "p225",
            "wav48_silence_trimmed/p280/p280_001_mic1.flac": "p280",
            "wav48_silence_trimmed/s5/s5_001_mic1.flac": "s5",
        },
        {
            "wav48_silence_trimmed/log.txt": "",
            "txt/p225/p225_001.txt": "Please call Stella.",
            "speaker-info.txt": "ID  AGE  GENDER\np225  23  F\np280  22  F\ns5  22  F\n",
        },
    ),
    "cmu_arctic": (
        "ARCTIC",
        {
            "cmu_us_bdl_arctic/wav/arctic_a0001.wav": "bdl",
            "cmu_us_slt_arctic/wav/arctic_a0001.wav": "slt",
        },
        {"cmu_us_bdl_arctic/etc/txt.done.data": "( arctic_a0001 'Author' )\n"},
    ),
    "libritts": (
        "LibriTTS",
        {
            "dev-clean/84/121123/84_121123_000007_000001.wav": "84",
            "train-clean-100/103/1240/103_1240_000000_000001.wav": "103",
        },
        {
            "dev-clean/84/121123/84_121123.trans.tsv": "84_121123_000007_000001\tMaximilian.\tM\n",
            "SPEAKERS.txt": "",
        },
    ),
    "yesno": ("waves_yesno", dict.fromkeys(YESNO, "yesno"), {"README": ""}),
}


def plant_small(plant: Plant, name: str) -> tuple[Path, str, dict[str, str]]:
    """Make the corpus `name`; return its parent, its folder, and its recordings' speakers."""
    folder, speakers, texts = SMALL[name]
    root = plant(
        *(f"{folder}/{recording}" for recording in speakers),
        texts={f"{folder}/{text}": content for text, content in texts.items()},
    )
    return root, folder, speakers


@pytest.mark.parametrize("name", SMALL)
def test_a_corpus_is_found_in_its_folder_and_from_its_parent(name: str, plant: Plant) -> None:
    parent, folder, speakers = plant_small(plant, name)

    inside = get_corpus(name).find(parent / folder).sources
    above = get_corpus(name).find(parent).sources

    assert {source.name: source.speaker for source in inside} == speakers
    assert {source.name: source.speaker for source in above} == {
        f"{folder}/{recording}": speaker for recording, speaker in speakers.items()
    }
    for sources in (inside, above):
        names = [source.name for source in sources]
        assert names == sorted(names)
        assert all(source.path.is_file() and source.size for source in sources)


@pytest.mark.parametrize("name", SMALL)
def test_a_corpus_is_found_in_the_current_folder(
    name: str, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, folder, speakers = plant_small(plant, name)
    monkeypatch.chdir(parent / folder)

    found = get_corpus(name).find(Path())

    assert {source.name: source.speaker for source in found.sources} == speakers


@pytest.mark.parametrize("name", SMALL)
def test_folder_without_the_corpus_shows_contents_and_source(name: str, plant: Plant) -> None:
    root = plant("mine/talk.wav", texts={"notes.txt": ""})
    about = re.escape(get_corpus(name).about)

    with pytest.raises(DataError, match=rf"root does not .* {name}: found mine, notes.txt; wanted"):
        get_corpus(name).find(root)
    with pytest.raises(DataError, match=rf"{about}\. data.download=true downloads it"):
        get_corpus(name).find(root)


@pytest.mark.parametrize("name", SMALL)
def test_missing_root_empty_root_and_file_have_different_messages(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()

    for place, found in (
        ("none", "no such folder"),
        ("empty", "an empty folder"),
        ("file", "a file"),
    ):
        with pytest.raises(DataError, match=f"{place} does not hold .* found {found}"):
            get_corpus(name).find(tmp_path / place)


@pytest.mark.parametrize("name", SMALL)
def test_every_file_of_a_corpus_is_a_recording_or_counted(name: str, plant: Plant) -> None:
    root, folder, speakers = plant_small(plant, name)
    where = next(iter(speakers)).rpartition("/")[0]
    plant(f"{folder}/{where}/extra.ogg", texts={f"{folder}/{where}/.hidden": ""})

    found = get_corpus(name).find(root)

    assert len(found.sources) == len(speakers)
    assert ("ogg", 1) in found.others
    assert found.hidden == 1


@pytest.mark.parametrize("name", sorted(SMALL.keys() - {"yesno"}))  # whose folder is one
def test_linked_folders_are_named_when_recordings_are_missing(name: str, plant: Plant) -> None:
    root, folder, speakers = plant_small(plant, name)
    linked = (root / folder / next(iter(speakers))).parent
    linked.rename(root / "elsewhere")
    linked.symlink_to(root / "elsewhere")

    with pytest.raises(DataError, match="linked folders there, which are not followed: 1"):
        get_corpus(name).find(root)


@pytest.mark.parametrize("name", sorted(CORPORA.keys() - {"folder"}))
def test_each_corpus_states_its_license_and_source(name: str) -> None:
    about = CORPORA[name].about

    assert re.search(r"https?://\S+\w", about)
    assert re.search(r"CC BY|public domain|license|free for any use", about)
    assert "\n" not in about


def test_each_name_is_its_corpus() -> None:
    assert {corpus.name: corpus for corpus in CORPORA.values()} == CORPORA
    assert SMALL.keys() | {"folder"} <= CORPORA.keys()


def test_a_folder_is_a_corpus_without_speakers(plant: Plant) -> None:
    root = plant("b/two.wav", "a.flac")

    found = get_corpus("folder").find(root)

    assert [(source.name, source.speaker) for source in found.sources] == [
        ("a.flac", ""),
        ("b/two.wav", ""),
    ]


def test_an_unknown_corpus_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="data.corpus 'ljspech' .* did you mean 'ljspeech'"):
        get_corpus("ljspech")


def test_help_of_data_corpus_lists_every_corpus() -> None:
    (text,) = (
        field.metadata["help"]
        for field in dataclasses.fields(DataOptions)
        if field.name == "corpus"
    )

    assert {name for name in CORPORA if name not in text} == set()
