"""Inputs that leave nothing to generate, and models whose frames the audio config lacks."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.commands import Run
from wavenet.checkpoint import save
from wavenet.config import AudioConfig, LocalConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.presets import MEL_PRESETS

MEL = MEL_PRESETS["8khz"]
PLAIN = AudioConfig(sample_rate=8000)
WITH_MEL = AudioConfig(sample_rate=8000, mel=MEL)


def write_model(folder: Path, channels: int | None, audio: AudioConfig) -> None:
    torch.manual_seed(0)
    local = None
    if channels is not None:
        local = LocalConfig(in_channels=channels, channels=4, upsample_scales=(8, 10))
    config = WaveNetConfig(dilations=(1, 2), residual_channels=4, skip_channels=4, local=local)
    save(WaveNet(config), folder / "model", audio)


@pytest.fixture
def recording(tmp_path: Path) -> str:
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    return "a.wav"


@pytest.mark.parametrize("command", ["generate", "evaluate"])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(
    ("channels", "audio", "needed", "described"),
    [
        (40, PLAIN, "frames of 40 channels every 80 samples", "no frames"),
        (40, WITH_MEL, "frames of 40 channels", f"frames of {MEL.n_mels} channels"),
        (None, WITH_MEL, "no frames", f"frames of {MEL.n_mels} channels every 80 samples"),
    ],
)
def test_frames_that_the_audio_config_does_not_describe_are_for_python(
    run: Run,
    tmp_path: Path,
    recording: str,
    command: str,
    given: bool,
    channels: int | None,
    audio: AudioConfig,
    needed: str,
    described: str,
) -> None:
    write_model(tmp_path, channels, audio)
    own = (f"input={recording}",) if command == "generate" else (f"data.root={tmp_path}",)

    done = run(command, "model", *(own if given else ()))

    assert done.returncode == 2
    assert f"ConfigError: the model needs {needed}" in done.stderr
    assert f"its audio config describes {described}" in done.stderr
    assert "only Python can give them" in done.stderr


def test_prompt_as_long_as_the_input_leaves_nothing(
    run: Run, tmp_path: Path, recording: str
) -> None:
    write_model(tmp_path, MEL.n_mels, WITH_MEL)

    for seconds in ((), ("seconds=0.1",)):
        done = run("generate", "model", f"input={recording}", f"prompt={recording}", *seconds)

        assert done.returncode == 2
        assert "ConfigError: the prompt covers all of the input, so nothing is left" in done.stderr


def test_mel_without_frames_is_refused(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path, MEL.n_mels, WITH_MEL)
    np.save(tmp_path / "mel.npy", np.zeros((MEL.n_mels, 0), "f4"))

    done = run("generate", "model", "input=mel.npy", "mel_preset=model")

    assert done.returncode == 3
    assert done.stderr == "DataError: mel.npy has no frames, so there is nothing to generate\n"
