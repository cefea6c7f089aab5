"""Held-out clips: the test split of the prepared recordings."""

from pathlib import Path

import pytest

from wavenet.checkpoint import Checkpoint, TrainingInfo
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.manifest import read_manifest, write_manifest
from wavenet.data.options import DataOptions, PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.evaluation.held_out import first_seconds, held_out_clips, held_out_split
from wavenet.evaluation.options import default_page
from wavenet.model import WaveNet
from wavenet.utils.errors import ConfigError, DataError


@pytest.fixture
def folder(recordings: Path, tmp_path: Path) -> Path:
    plan = make_plan(recordings, tmp_path / "prepared", PrepareOptions(sample_rate=8000))
    prepare_clips(plan)
    return tmp_path / "prepared"


def untrained(sample_rate: int) -> Checkpoint:
    config = WaveNetConfig(dilations=(1, 2), residual_channels=4, gate_channels=4)
    return Checkpoint(WaveNet(config), AudioConfig(sample_rate=sample_rate), TrainingInfo())


def test_without_recordings_and_without_a_run_nothing_is_evaluated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not part of a run, so add data.root=FOLDER"):
        held_out_clips(tmp_path / "model", untrained(8000))


def test_clips_at_another_sample_rate_are_an_error(folder: Path, tmp_path: Path) -> None:
    data = DataOptions(sample_rate=1, processed_dir=str(folder))

    with pytest.raises(DataError, match="8000 Hz, the model at 16000 Hz"):
        held_out_clips(tmp_path / "model", untrained(16000), data)


def test_a_folder_without_held_out_clips_is_an_error(folder: Path, tmp_path: Path) -> None:
    train = [clip for clip in read_manifest(folder) if clip.split == "train"]
    write_manifest(folder / "manifest.jsonl", train)
    data = DataOptions(sample_rate=1, processed_dir=str(folder))

    with pytest.raises(DataError, match="has no held-out clips"):
        held_out_clips(tmp_path / "model", untrained(8000), data)


def test_the_test_split_is_preferred_to_validation(folder: Path) -> None:
    clips = read_manifest(folder)

    assert {clip.split for clip in held_out_split(clips)} == {"test"}
    write_manifest(folder / "manifest.jsonl", [clip for clip in clips if clip.split != "test"])
    assert {clip.split for clip in held_out_split(read_manifest(folder))} == {"valid"}


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.1, 1), (0.75, 1), (0.76, 2), (1.5, 2), (99.0, 6), (None, 6)]
)
def test_first_seconds_takes_the_first_clips_up_to_that_length(
    folder: Path, seconds: float | None, count: int
) -> None:
    clips = read_manifest(folder)  # of 0.75 s each

    assert list(first_seconds(clips, seconds)) == list(clips)[:count]
    assert list(first_seconds(list(clips), seconds)) == list(clips)[:count]


def test_the_page_lies_beside_the_model_if_that_is_a_folder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)

    assert default_page(model, is_own=True) == tmp_path / "run" / "evaluation.html"
    assert default_page(model, is_own=False) == Path("evaluation.html"), "a shipped model"
    monkeypatch.chdir(model)
    assert default_page(Path(), is_own=True) == tmp_path / "run" / "evaluation.html"
    assert default_page(Path("/absent/model"), is_own=True) == Path("evaluation.html")
