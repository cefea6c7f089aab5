"""Models that ship: small, with a card, and they draw what they drew when they were shipped."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from docs.models.ship import MAX_BYTES, PAGES, digest, drawn, save, without_paths
from docs.models.table import PAGE, shipped_names, updated
from tests.commands import run_here
from wavenet.checkpoint import Checkpoint, TrainingInfo
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.model_card import model_card
from wavenet.model_directory import SHIPPED

NAMES = shipped_names()


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_small_and_states_its_licenses(name: str) -> None:
    files = {path.name: path.stat().st_size for path in (SHIPPED / name).iterdir()}
    card, training = (SHIPPED / name / "README.md").read_text("utf-8"), wavenet.load(name).training

    assert sum(files.values()) < MAX_BYTES
    assert {"config.json", "model.safetensors", "README.md"} < set(files)
    assert len([file for file in files if file.startswith("example.")]) == 1
    assert training.license
    assert f"| License of the weights | {training.license} |" in card
    assert f"| License of the data | {training.data_license} |" in card
    assert training.attribution
    assert training.attribution in card
    assert "\nwavenet-train recipe=" in card
    assert card == model_card(*wavenet.load(name)), "written by save() of docs/models/ship.py"


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_draws_the_signal_of_its_digest(name: str) -> None:
    reference = json.loads((PAGES / name / "signal.json").read_text("utf-8"))

    signal = drawn(name)

    assert float(signal.abs().max()) > 0.01  # the excerpt is not a pause
    if digest(signal) != reference["sha256"]:
        # The CPU sampler has the same bits on every processor; torch's convolutions over the
        # frames, and its other versions, may round otherwise. A draw at a border then differs.
        first = torch.tensor(reference["first_samples"]) / 32768
        torch.testing.assert_close(signal[: len(first)], first, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_generate_by_name_alone_draws_the_example(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = () if name == "demo_voice" else (f"checkpoint={name}",)

    done = run_here("generate", (*arguments, "seconds=0.6"), capsys)

    assert done.returncode == 0, done.stderr
    samples, rate = soundfile.read("generated.wav")
    assert rate == wavenet.load(name).audio.sample_rate
    assert len(samples) == round(0.6 * rate)
    assert np.abs(samples).max() > 0.01


def test_no_shipped_file_names_a_path_of_the_machine_that_trained() -> None:
    texts = [
        path
        for folder in (SHIPPED, PAGES)
        for path in folder.rglob("*")
        if path.suffix in {".json", ".md", ".yaml", ".csv"}
    ]

    named = {
        f"{path}: {found[0]}"
        for path in texts
        if (found := re.search(r"(?<![\w.:/])/(?!\s)\w+/\w+", path.read_text("utf-8")))
    }

    assert named == set()


def test_the_page_of_models_follows_from_their_files() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert updated(page) == page, "run: python -m docs.models.table"


@pytest.mark.parametrize(("channels", "bytes_of_a_weight"), [(16, 4), (360, 2)])
def test_a_model_ships_in_the_dtype_that_fits_beside_its_example(
    channels: int, bytes_of_a_weight: int, tmp_path: Path
) -> None:
    config = WaveNetConfig(
        dilations=(1,), residual_channels=channels, gate_channels=channels, skip_channels=channels
    )
    model, folder = WaveNet(config), tmp_path / "model"
    trained = Checkpoint(model, AudioConfig(sample_rate=8000), TrainingInfo())
    folder.mkdir()
    (folder / "example.csv").write_text("0,1,60\n")

    save(trained, folder, trained.training)
    save(trained, folder, trained.training)  # again, over the model that is there

    weights = sum(tensor.numel() for tensor in model.state_dict().values())
    size = (folder / "model.safetensors").stat().st_size
    assert size // weights == bytes_of_a_weight
    assert size < MAX_BYTES
    assert (folder / "example.csv").read_text() == "0,1,60\n"


def test_a_config_ships_without_absolute_paths() -> None:
    plain = {"data": {"root": "/somewhere/clips", "corpus": "vctk"}, "list": [1, "/a"]}

    assert without_paths(plain) == {"data": {"root": None, "corpus": "vctk"}, "list": [1, None]}
