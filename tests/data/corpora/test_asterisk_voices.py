from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavenet.data.corpora.asterisk_voices import VOICES, fetch, find
from wavenet.utils.errors import DataError, MachineError

TONE = (0.3 * 32767 * np.sin(np.arange(3200) / 8)).astype(np.int16)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Prompts as the packages install them, a tone each."""
    encoded = bytes(pytest.importorskip("G722").G722(16000, 64000).encode(TONE))
    folder = tmp_path / "sounds"
    for voice in VOICES:
        for name in ("yes.g722", "digits/1.g722", "beep.g722", "silence/1.g722"):
            (folder / voice / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / voice / name).write_bytes(encoded)
        (folder / voice / "empty.g722").touch()
    return folder


def test_prompts_become_flac_and_their_folder_is_the_voice(installed: Path, tmp_path: Path) -> None:
    fetch(tmp_path / "root", installed)

    sources = find(tmp_path / "root").sources
    assert {source.speaker for source in sources} == VOICES.keys()
    assert len(sources) == 2 * len(VOICES)
    samples, rate = soundfile.read(tmp_path / "root" / "en_US_f_Allison" / "digits" / "1.flac")
    assert (len(samples), rate) == (3200, 16000)
    delay = 22  # samples, of the codec's filters
    np.testing.assert_allclose(samples[500:], TONE[500 - delay : -delay] / 32768, atol=0.01)
    assert "CC BY" in (tmp_path / "root" / "ORIGIN.txt").read_text()


def test_a_voice_that_is_not_installed_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="apt install asterisk-core-sounds-en-g722"):
        fetch(tmp_path / "root", installed=tmp_path)

    assert not (tmp_path / "root").exists()


def test_root_without_a_voice_is_an_error(installed: Path, tmp_path: Path) -> None:
    fetch(tmp_path / "root", installed)
    for path in (tmp_path / "root" / "fr_CA_f_June").rglob("*.flac"):
        path.unlink()
    (tmp_path / "root" / "fr_CA_f_June" / "digits").rmdir()
    (tmp_path / "root" / "fr_CA_f_June").rmdir()

    with pytest.raises(DataError, match="lacks fr_CA_f_June"):
        find(tmp_path / "root")


def test_missing_root_explains_how_to_create_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data.download=true creates it.*apt install"):
        find(tmp_path / "root")
