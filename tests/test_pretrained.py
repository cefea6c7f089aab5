"""Models by name: those of a folder of models, and what a name that is none says."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import wavenet
from wavenet.checkpoint import TrainingInfo, save
from wavenet.config import AudioConfig, LocalConfig, MelConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.model_directory import SHIPPED
from wavenet.pretrained import find_model
from wavenet.utils.errors import CheckpointError, ConfigError

CONFIG = WaveNetConfig(
    quantization_channels=8, dilations=(1, 2), residual_channels=4, gate_channels=4
)
AUDIO = AudioConfig(sample_rate=8000)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of models that `WAVENET_MODELS` names; the current folder is another."""
    mel = MelConfig(
        sample_rate=8000, n_fft=256, hop_length=80, win_length=256, n_mels=4, f_max=4000
    )
    vocoder = WaveNetConfig(
        quantization_channels=8,
        dilations=(1,),
        local=LocalConfig(in_channels=4, channels=4, upsample_scales=(80,)),
        num_speakers=2,
        global_in_channels=3,
    )
    audio = AudioConfig(sample_rate=8000, mel=mel, speaker_names=("a", "b"))
    save(WaveNet(vocoder), tmp_path / "models" / "vocoder", audio)
    info = TrainingInfo(bits_per_sample=4.25, license="CC-BY-4.0")
    save(WaveNet(CONFIG), tmp_path / "models" / "allison", AUDIO, info)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("WAVENET_MODELS", os.pathsep.join(["", str(tmp_path / "models")]))
    return tmp_path / "models"


def test_models_are_listed_with_what_they_need(folder: Path) -> None:
    listed = {model.name: model for model in wavenet.models()}
    unconditional, vocoder = listed["allison"], listed["vocoder"]

    assert unconditional == wavenet.ModelInfo(
        name="allison",
        conditioning=(),
        sample_rate=8000,
        bits_per_sample=4.25,
        license="CC-BY-4.0",
    )
    assert vocoder.conditioning == ("mel", "speaker", "vector")
    assert vocoder.license is None


def test_a_model_loads_by_its_name(folder: Path) -> None:
    assert wavenet.load("allison").training.bits_per_sample == 4.25
    assert find_model("allison") == folder / "allison"


def test_every_shipped_model_loads_and_is_listed() -> None:
    names = {path.parent.name for path in SHIPPED.glob("*/config.json")}

    assert {model.name for model in wavenet.models()} == names
    for name in names:
        assert wavenet.load(name).training.license


def test_an_existing_path_wins_over_a_name(folder: Path) -> None:
    save(WaveNet(CONFIG), "allison", AudioConfig(sample_rate=16000))

    assert wavenet.load("allison").audio.sample_rate == 16000


def test_the_first_of_several_folders_wins(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(WaveNet(CONFIG), tmp_path / "more" / "allison", AudioConfig(sample_rate=16000))
    monkeypatch.setenv("WAVENET_MODELS", os.pathsep.join([str(tmp_path / "more"), str(folder)]))

    assert wavenet.load("allison").audio.sample_rate == 16000


def test_an_unknown_name_suggests_the_nearest(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no model of that name; did you mean 'allison'?"):
        wavenet.load("alison")
    with pytest.raises(CheckpointError, match="there is no model directory runs/demo/model; exp"):
        wavenet.load("runs/demo/model")
    with pytest.raises(CheckpointError, match="there is no model directory allison$"):
        wavenet.load(Path("allison"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("runz/x/model", "runz/x/model; did you mean 'runs/x/model'?;"),
        ("runs/xx", "runs/xx; did you mean 'runs/x/model'?;"),
        ("runs/typo/model", "runs/typo/model; runs has runs/x/model, runs/y/model;"),
        ("runs/typo", "runs/typo; runs has runs/x/model, runs/y/model;"),
        ("elsewhere/model", "elsewhere/model; expected"),
        ("./z", "z; expected"),
        ("/nowhere/z/model", "/nowhere/z/model; expected"),
    ],
)
def test_a_mistyped_path_is_answered_with_the_nearest_never_with_the_hub(
    name: str, words: str, folder: Path
) -> None:
    for run in ("x", "y"):
        save(WaveNet(CONFIG), Path("runs", run, "model"), AUDIO)

    with pytest.raises(CheckpointError) as caught:
        wavenet.load(name)

    text = str(caught.value)
    assert text.startswith(f"there is no model directory {words}")
    assert "name of a model (allison, " in text
    assert "owner/name@main on the Hugging Face hub" in text
    assert "huggingface_hub" not in text


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(CheckpointError, match="the name of a model is empty; expected a model dir"):
        wavenet.load("")


def test_a_name_that_is_too_long_or_none_is_refused() -> None:
    nothing: Any = None

    for name in ("x" * 5000, Path("x" * 5000), f"a/{'x' * 5000}"):
        with pytest.raises(CheckpointError, match="^there is no model directory .*too long$"):
            wavenet.load(name)
    with pytest.raises(TypeError, match="must be a string or a Path, got NoneType"):
        wavenet.load(nothing)


def test_a_name_with_the_slash_of_a_shell_is_answered_without_it(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="directory allison/; did you mean 'allison', the"):
        wavenet.load("allison/")


@pytest.mark.parametrize("name", ["cudaa", "", "gpu", "cuda:x", "cuda:-2", 1.5])
def test_a_device_that_is_none_is_refused_before_the_model_is_looked_for(name: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        wavenet.load("nowhere", device=name)

    assert str(caught.value) == f"device must be cpu, cuda, cuda:N or mps, got {name!r}"


@pytest.mark.parametrize("name", ["cuda:99", torch.device("cuda", 99), "mps:7"])
def test_a_device_that_is_not_here_is_refused_with_what_is(name: Any, folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        wavenet.load("allison", device=name)

    start = f"device={name}: PyTorch {torch.__version__} finds "
    assert re.fullmatch(re.escape(start) + r"(none|\d+) here; use .*cpu", str(caught.value))
    assert "\n" not in str(caught.value)


def test_an_interrupted_save_is_found_before_the_hub_is_asked(folder: Path) -> None:
    Path("demo/.model.old-0123abcd").mkdir(parents=True)

    with pytest.raises(CheckpointError, match="an interrupted save kept the previous one"):
        wavenet.load("demo/model")


def test_from_pretrained_and_save_pretrained_are_aliases(folder: Path) -> None:
    model = wavenet.WaveNet.from_pretrained("allison")
    model.save_pretrained("copy", AUDIO, TrainingInfo(steps=7))

    copied = wavenet.load("copy")

    assert copied.training.steps == 7
    waveform = torch.rand(1, 20)
    assert torch.equal(copied.model(waveform), model(waveform))
