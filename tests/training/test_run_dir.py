import dataclasses
from pathlib import Path

import pytest

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import EvaluationOptions
from wavenet.training.options import OptimOptions, RunConfig, TrainerOptions
from wavenet.training.run_dir import new_folder, started_before
from wavenet.utils.errors import ConfigError

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
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_folder_of_its_own_for_each_run_found_by_its_launch() -> None:
    made = [new_folder(CONFIG, None, launch) for launch in ("one", None, "two", "one")]

    assert made == [Path("runs", name) for name in ("a.b", "a.b-2", "a.b-3", "a.b-4")]
    assert started_before(CONFIG, None, "two") == made[2]
    assert started_before(CONFIG, None, "one") == made[3], "the latest"
    assert started_before(CONFIG, None, "three") is None
    assert started_before(CONFIG, None, None) is None


def test_another_config_is_another_run_though_the_launch_has_the_same_name() -> None:
    new_folder(CONFIG, None, "one")

    assert started_before(dataclasses.replace(CONFIG, seed=1), None, "one") is None


def test_a_chosen_folder_is_gone_on_with_by_its_own_launch_alone() -> None:
    run = new_folder(CONFIG, Path("chosen"), "one")

    assert started_before(CONFIG, Path("chosen"), "one") == run
    assert started_before(CONFIG, Path("chosen"), "two") is None
    with pytest.raises(ConfigError, match="run_dir chosen is not empty"):
        new_folder(CONFIG, Path("chosen"), "two")


def test_a_folder_of_a_name_that_only_begins_alike_is_another_runs() -> None:
    new_folder(dataclasses.replace(CONFIG, name="a.bc"), None, "one")
    new_folder(dataclasses.replace(CONFIG, name="axb"), None, "one")

    assert started_before(CONFIG, None, "one") is None
