import dataclasses
from pathlib import Path

import pytest

from wavenet.config import AudioConfig, LocalConfig, ScoreConfig, WaveNetConfig
from wavenet.data.manifest import MANIFEST, Clip, write_manifest
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import EvaluationOptions
from wavenet.training.data import resolve_config
from wavenet.training.options import OptimOptions, RunConfig, TrainerOptions
from wavenet.training.run import find_relaunched_run, new_run_dir
from wavenet.utils.errors import ConfigError, DataError

CONFIG = RunConfig(
    name="a.b",
    seed=0,
    audio=AudioConfig(),
    model=WaveNetConfig(),
    data=DataOptions(sample_rate=AudioConfig().sample_rate),
    optim=OptimOptions(),
    trainer=TrainerOptions(),
    evaluation=EvaluationOptions(),
)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_run_gets_its_own_folder_and_its_launch_finds_it() -> None:
    made = [new_run_dir(CONFIG, None, launch) for launch in ("one", None, "two", "one")]

    assert made == [Path("runs", name) for name in ("a.b", "a.b-2", "a.b-3", "a.b-4")]
    assert find_relaunched_run(CONFIG, None, "two") == made[2]
    assert find_relaunched_run(CONFIG, None, "one") == made[3], "the latest"
    assert find_relaunched_run(CONFIG, None, "three") is None
    assert find_relaunched_run(CONFIG, None, None) is None


def test_a_launch_with_another_config_is_another_run() -> None:
    new_run_dir(CONFIG, None, "one")

    assert find_relaunched_run(dataclasses.replace(CONFIG, seed=1), None, "one") is None


def test_only_its_own_launch_continues_a_chosen_folder() -> None:
    run = new_run_dir(CONFIG, Path("chosen"), "one")

    assert find_relaunched_run(CONFIG, Path("chosen"), "one") == run
    assert find_relaunched_run(CONFIG, Path("chosen"), "two") is None
    with pytest.raises(ConfigError, match="run_dir chosen is not empty"):
        new_run_dir(CONFIG, Path("chosen"), "two")


def test_a_name_with_the_same_prefix_is_another_run() -> None:
    new_run_dir(dataclasses.replace(CONFIG, name="a.bc"), None, "one")
    new_run_dir(dataclasses.replace(CONFIG, name="axb"), None, "one")

    assert find_relaunched_run(CONFIG, None, "one") is None


def test_a_score_that_prepared_clips_lack_is_refused_before_training(tmp_path: Path) -> None:
    clip = Clip("audio/a.wav", 16000, 16000, "", "train", "0" * 64, "a.wav", 0)
    write_manifest(tmp_path / MANIFEST, [clip])
    score = ScoreConfig(sample_rate=16000, hop_length=80, midi_min=60, midi_max=64)
    config = dataclasses.replace(
        CONFIG,
        audio=AudioConfig(score=score),
        model=WaveNetConfig(local=LocalConfig(in_channels=10, upsample_scales=(80,))),
        data=dataclasses.replace(CONFIG.data, processed_dir=str(tmp_path)),
    )

    with pytest.raises(DataError, match=r"audio/a\.wav has no notes, and audio\.score needs them"):
        resolve_config(config)
