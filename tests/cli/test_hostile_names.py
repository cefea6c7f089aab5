"""Names of files that no shell likes: they are used as they are, and shown without harm."""

import os
import sys
from pathlib import Path

import pytest
import torch

from tests.commands import Run
from wavenet.checkpoint import save
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.audio import wav_bytes
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler

RATE = 8000
NAMES = {
    "newline and escape": "new\nline\x1b[31m",
    "other encoding": os.fsdecode(b"caf\xe9 \xff"),
    "grammar of overrides": "a=b,c#[d]{e}$~ '\"${oc.env:HOME}",
    "leading dash": "-x",
    "250 bytes": "é" * 125,
    "backslash": "back\\slash",
    "blanks": "  ",
    "right to left": "a\u202egpj.wav",
}
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names of POSIX")


@pytest.fixture
def model() -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(WaveNetConfig(dilations=(1, 2), residual_channels=4, skip_channels=4))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_of_any_bytes_is_taken_literally_and_shown_on_one_line(
    run: Run, model: WaveNet, tmp_path: Path, name: str
) -> None:
    common = ("generate", "backend=reference", "seconds=0.01")
    tone = 0.5 * torch.sin(torch.arange(200) / 5).numpy()
    for one in ("plain", name):
        save(model, tmp_path / one / "model", AudioConfig(sample_rate=RATE))
        (tmp_path / one / "in.wav").write_bytes(wav_bytes(tone, RATE))
        paths = (f"checkpoint={one}/model", f"prompt={one}/in.wav", f"output={one}/out.wav")
        done = run(*common, *paths)
        assert done.returncode == 0, done.stderr
        shown = (done.stdout + done.stderr).replace("\n", "")
        assert shown.isprintable(), ascii(shown)
    plain, other = ((tmp_path / one / "out.wav").read_bytes() for one in ("plain", name))
    assert plain == other

    for wrong in (f"checkpoint={name}/nothing", f"prompt={name}/nothing.wav"):
        done = run(*common, "checkpoint=plain/model", wrong, "output=a.wav")
        assert done.returncode in (3, 4)
        assert "Traceback" not in done.stderr
        assert done.stderr.replace("\n", "").isprintable(), ascii(done.stderr)


@pytest.mark.parametrize("number", [3, 2**31, 2**32, 2**63 - 1, -(2**31)])
def test_a_speaker_of_any_number_is_known_or_refused(number: int) -> None:
    model = WaveNet(WaveNetConfig(dilations=(1, 2), num_speakers=3)).eval()
    speaker = torch.tensor([number])

    with pytest.raises(ValueError, match="speaker"):
        model(torch.zeros(1, 4), speaker=speaker)
    for backend in ("reference", "cpu"):
        with pytest.raises(ValueError, match="speaker"):
            make_sampler(model, backend).init_state(1, speaker=speaker)
