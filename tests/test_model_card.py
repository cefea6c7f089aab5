"""The card of a model: its metadata, its table, and a command line that works as it stands."""

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard

from tests.commands import run_here
from wavenet.checkpoint import TrainingInfo, load, save
from wavenet.config import (
    AudioConfig,
    F0Config,
    FramesConfig,
    LocalConfig,
    MelConfig,
    ScoreConfig,
    WaveNetConfig,
)
from wavenet.model import WaveNet
from wavenet.model_card import card_for_hub, lineage_from

RATE, HOP = 8000, 80
SMALL: dict[str, Any] = {
    "quantization_channels": 8,
    "dilations": (1, 2),
    "residual_channels": 4,
    "gate_channels": 4,
}
MEL = MelConfig(sample_rate=RATE, n_fft=256, hop_length=HOP, win_length=256, n_mels=4, f_max=4000)
F0 = F0Config(sample_rate=RATE, hop_length=HOP)
FRAMES = FramesConfig(sample_rate=RATE, hop_length=HOP, channels=2, description="WORLD | 2")
SCORE = ScoreConfig(sample_rate=RATE, hop_length=HOP, midi_min=60, midi_max=62)
AUDIO = AudioConfig(sample_rate=RATE)


def written(folder: Path, audio: AudioConfig = AUDIO, **training: Any) -> str:
    """Save a small model of this audio config, and return its card."""
    local = None
    if audio.features:
        local = LocalConfig(in_channels=audio.channels, channels=4, upsample_scales=(HOP,))
    config = WaveNetConfig(**SMALL, local=local, num_speakers=len(audio.speaker_names))
    save(WaveNet(config), folder, audio, TrainingInfo(**training))
    return (folder / "README.md").read_text(encoding="utf-8")


def metadata(card: str) -> dict[str, Any]:
    head: dict[str, Any] = ModelCard(card).data.to_dict()
    return head


@pytest.mark.parametrize(
    "audio",
    [
        AUDIO,
        dataclasses.replace(AUDIO, mel=MEL),
        dataclasses.replace(AUDIO, f0=F0, speaker_names=("O'Brien & co", "b")),
        dataclasses.replace(AUDIO, score=SCORE),
        dataclasses.replace(AUDIO, mel=MEL, score=SCORE),
        dataclasses.replace(AUDIO, speaker_names=("a", "b")),
        dataclasses.replace(AUDIO, frames=FRAMES),
        dataclasses.replace(AUDIO, frames=FRAMES, mel=MEL),
        dataclasses.replace(AUDIO, frames=FRAMES, score=SCORE),
    ],
    ids=[
        *("nothing", "mel", "f0 and speaker", "score", "mel and score", "speaker"),
        *("frames", "mel and frames", "score and frames"),
    ],
)
def test_the_command_of_a_card_works_as_it_stands(
    audio: AudioConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = written(tmp_path / "model", audio)
    monkeypatch.chdir(tmp_path / "model")
    noise = np.random.default_rng(0).normal(scale=0.1, size=RATE // 16)
    for name in re.findall(r"^`(\S+)`: ", card, re.MULTILINE):  # the files that it asks for
        if name.endswith(".wav"):
            soundfile.write(name, noise, RATE)
        elif name.endswith(".npy"):
            np.save(name, noise[: 2 * 7].reshape(2, 7))
        else:
            Path(name).write_text("0,0.03,60\n0.03,0.06,61\n")
    (command,) = re.findall(r"^wavenet-generate (.*)$", card, re.MULTILINE)
    words = [word.replace("seconds=5", "seconds=0.02") for word in shlex.split(command)]

    done = run_here("generate", (*words, "backend=reference"), capsys)

    assert done.returncode == 0, done.stderr
    assert soundfile.info("generated.wav").samplerate == RATE


def test_metadata_is_what_the_hub_reads(tmp_path: Path) -> None:
    card = written(
        tmp_path / "model",
        dataclasses.replace(AUDIO, mel=MEL),
        license="CC-BY-SA-4.0",
        data_license='"free": for any use',
        base_model="owner/name@v1",
    )

    assert metadata(card) == {
        "license": "cc-by-sa-4.0",
        "data_license": '"free": for any use',
        "base_model": "owner/name",
        "library_name": "torch-wavenet",
        "pipeline_tag": "audio-to-audio",
        "tags": ["audio", "wavenet", "vocoder"],
    }


def test_a_card_tells_whose_recordings_and_which_command(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "attribution": f"A. Speaker{' and others' * 30}, 2026, CC-BY-3.0",
        "command": "wavenet-train recipe=demo 'model.predictor={order: 128}'",
        "duration": "0.9 hours on two cores",
    }

    card = written(tmp_path / "model", **given)

    assert f"\n## Attribution\n\n{given['attribution']}\n" in card
    assert f"\n## Training\n\n```sh\n{given['command']}\n```\n" in card
    assert "| Time of training | 0.9 hours on two cores |" in card
    found = load(tmp_path / "model").training
    assert {name: getattr(found, name) for name in given} == given


def test_a_license_that_the_hub_does_not_list_has_a_name(tmp_path: Path) -> None:
    head = metadata(written(tmp_path / "model", license="My own: ask me"))

    assert (head["license"], head["license_name"]) == ("other", "My own: ask me")


def test_what_is_not_known_is_not_claimed(tmp_path: Path) -> None:
    card = written(tmp_path / "model", base_model="checkpoint-final.pkl of PytorchWaveNetVocoder")

    assert not {"license", "data_license", "base_model"} & set(metadata(card))
    assert "| License of the weights | not given |" in card
    assert "| Base model | checkpoint-final.pkl of PytorchWaveNetVocoder |" in card


def test_licenses_of_the_models_before_are_on_the_card(tmp_path: Path) -> None:
    imported = TrainingInfo(base_model="a.pth of a project", license="MIT")
    first = lineage_from("owner/first", imported)
    voice = TrainingInfo(
        data="voice", data_license="CC-BY-4.0", base_model="owner/first", lineage=first
    )
    lineage = lineage_from("owner/voice", voice)

    card = written(
        tmp_path / "model",
        license="CC0-1.0",
        data_license="CC-BY-SA-3.0",
        base_model="owner/voice",
        lineage=lineage,
    )

    assert "| License of the weights | CC0-1.0; of the base model: MIT |" in card
    assert "| License of the data | CC-BY-SA-3.0; of the base model: CC-BY-4.0 |" in card
    chain = (
        "owner/voice (data: voice; data license: CC-BY-4.0), made from owner/first (license: MIT), "
        "made from a.pth of a project"
    )
    assert f"| Base model | {chain} |" in card
    head = metadata(card)
    assert (head["license"], head["base_model"]) == ("cc0-1.0", "owner/voice")
    assert head["data_license"] == "CC-BY-SA-3.0 and CC-BY-4.0"
    assert load(tmp_path / "model").training.lineage == lineage


def test_figures_of_validation_and_evaluation_say_which_they_are(tmp_path: Path) -> None:
    figures = {"PESQ ↑": 2.8312, "bits per sample ↓": 5.951}
    card = written(tmp_path / "model", bits_per_sample=6.506, evaluation=figures)

    assert "| Validation bits per sample | 6.506; during training; " in card
    assert "| Evaluation | after training, on the recordings held out for the test; " in card
    assert "| Evaluation: bits per sample ↓ | 5.951 |" in card
    assert "| Evaluation: PESQ ↑ | 2.831 |" in card


def test_text_from_outside_does_not_break_the_table(tmp_path: Path) -> None:
    card = written(tmp_path / "model", data="a | b\n---\n# c")

    assert "| Data | a \\| b\\n---\\n# c |" in card
    assert metadata(card)["library_name"] == "torch-wavenet"


def test_what_is_not_given_is_not_written_and_all_of_it_is_read(tmp_path: Path) -> None:
    written(tmp_path / "plain")
    info = TrainingInfo(
        license="MIT", data_license="CC0-1.0", base_model="x", evaluation={"a": 1.5}
    )
    written(tmp_path / "full", **vars(info))

    assert "license" not in (tmp_path / "plain" / "config.json").read_text()
    assert load(tmp_path / "full").training == info


def test_the_card_for_the_hub_names_the_repository(tmp_path: Path) -> None:
    card = card_for_hub(written(tmp_path / "model"), "owner/name")

    assert "pip install 'torch-wavenet[generate,hub]' # beside a clone: " in card
    assert "wavenet-generate checkpoint=owner/name seconds=5" in card
    assert "folder of this file" not in card
