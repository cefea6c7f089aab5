import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.small import single_process
from wavenet.checkpoint import TrainingInfo, load, save
from wavenet.config import AudioConfig, LocalConfig, ScoreConfig, WaveNetConfig
from wavenet.data.manifest import MANIFEST, Clip, write_manifest
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import EvaluationOptions
from wavenet.model import WaveNet
from wavenet.training.data import resolve_config
from wavenet.training.loggers import build_loggers
from wavenet.training.options import OptimOptions, RunConfig, TrainerOptions
from wavenet.training.run import (
    find_relaunched_run,
    locked_run_dir,
    new_run_dir,
    read_run,
    resume_run,
)
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import CheckpointError, ConfigError, DataError, MachineError
from wavenet.utils.files import locked

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
ONE_PROCESS = single_process()


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


@pytest.mark.parametrize(
    ("first", "given", "now"),
    [(None, None, 400), (500, None, 500), (400, None, 400), (None, 900, 900), (500, 900, 900)],
)
def test_a_resumed_schedule_keeps_its_length_unless_a_number_is_given(
    tmp_path: Path, first: int | None, given: int | None, now: int
) -> None:
    """`null` on the command line is the default, as the help of the key says."""
    clip = Clip("audio/a.wav", 16000, 16000, "", "train", "0" * 64, "a.wav", 0)
    write_manifest(tmp_path / MANIFEST, [clip])
    config = dataclasses.replace(
        CONFIG,
        data=dataclasses.replace(CONFIG.data, processed_dir=str(tmp_path)),
        optim=OptimOptions(lr_schedule_steps=first),
        trainer=TrainerOptions(max_steps=400, device="cpu"),
    )
    (tmp_path / "run.json").write_text(json.dumps(to_dict(config)))
    longer = dataclasses.replace(
        config,
        optim=OptimOptions(lr_schedule_steps=given),
        trainer=dataclasses.replace(config.trainer, max_steps=900),
    )

    resumed = resume_run(longer, tmp_path, ONE_PROCESS)

    assert resumed.optim.lr_schedule_steps == now


def test_fewer_steps_than_a_run_has_are_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000400.ckpt").touch()
    config = dataclasses.replace(CONFIG, trainer=TrainerOptions(max_steps=399))

    with pytest.raises(ConfigError, match=r"max_steps=399: .* has 400 steps already"):
        resume_run(config, tmp_path, ONE_PROCESS)


@pytest.fixture
def trained(tmp_path: Path) -> Callable[[int], Path]:
    """Make a run of 400 steps without checkpoints, whose model is of a step."""

    def make(steps: int) -> Path:
        clip = Clip("audio/a.wav", 16000, 16000, "", "train", "0" * 64, "a.wav", 0)
        write_manifest(tmp_path / MANIFEST, [clip])
        config = dataclasses.replace(
            CONFIG,
            data=dataclasses.replace(CONFIG.data, processed_dir=str(tmp_path)),
            trainer=TrainerOptions(max_steps=400, device="cpu"),
        )
        run = tmp_path / "run"
        run.mkdir()
        (run / "run.json").write_text(json.dumps(to_dict(config)))
        shape = WaveNetConfig(dilations=(1,), residual_channels=2, skip_channels=2)
        save(WaveNet(shape), run / "model", AudioConfig(), TrainingInfo(steps=steps))
        return run

    return make


@pytest.mark.parametrize(("steps", "left"), [(300, ""), (60, "checkpoints"), (60, "report.html")])
def test_a_run_that_lost_its_checkpoints_keeps_its_model(
    trained: Callable[[int], Path], steps: int, left: str
) -> None:
    run = trained(steps)
    if left == "checkpoints":
        (run / left).mkdir()
    elif left:
        (run / left).touch()

    with pytest.raises(CheckpointError) as caught:
        resume_run(read_run(run), run, ONE_PROCESS)

    assert str(caught.value).startswith(f"{run} has no checkpoint to resume from")
    assert f"overwrite {run / 'model'} of step {steps}: restore {run / 'checkpoints'}" in str(
        caught.value
    )
    assert f"init={run / 'model'} run_dir=OTHER" in str(caught.value)


@pytest.mark.parametrize(("logger", "step"), [("csv", 101), ("tensorboard", 101)])
def test_curves_past_the_first_checkpoint_tell_that_it_is_lost(
    trained: Callable[[int], Path], logger: str, step: int
) -> None:
    run = trained(60)
    log_steps(run, logger, 100)
    assert resume_run(read_run(run), run, ONE_PROCESS) == read_run(run)
    log_steps(run, logger, step)

    with pytest.raises(CheckpointError, match=r"overwrite .* of step 60: restore"):
        resume_run(read_run(run), run, ONE_PROCESS)


def test_an_evaluated_model_tells_that_its_run_had_checkpoints(
    trained: Callable[[int], Path],
) -> None:
    run = trained(60)
    model, audio, training = load(run / "model")
    save(model, run / "model", audio, dataclasses.replace(training, evaluation={"PESQ": 3.0}))

    with pytest.raises(CheckpointError, match=r"overwrite .* of step 60: restore"):
        resume_run(read_run(run), run, ONE_PROCESS)


def log_steps(run: Path, logger: Any, step: int) -> None:
    config = dataclasses.replace(CONFIG, trainer=TrainerOptions(logger=(logger,)))
    loggers = build_loggers(config, run, 1000)
    loggers.add_scalars({"train/bits_per_sample": 5.0}, step)
    loggers.close()


@pytest.mark.parametrize("steps", [0, 60, 100])
def test_a_run_that_was_killed_before_its_first_checkpoint_starts(
    trained: Callable[[int], Path], steps: int
) -> None:
    run = trained(steps)

    assert resume_run(read_run(run), run, ONE_PROCESS) == read_run(run)


def test_a_model_directory_is_no_run_and_names_its_run(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "run.json").touch()

    with pytest.raises(ConfigError, match=f"It is part of one: resume={tmp_path}"):
        read_run(tmp_path / "model")


def test_a_run_that_is_not_there_is_said_not_to_be_and_the_like_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "run.json").touch()

    with pytest.raises(ConfigError, match=f"^there is no folder {tmp_path}/dmo; .* 'demo'"):
        read_run(tmp_path / "dmo")


def test_a_file_is_no_folder_of_a_run() -> None:
    Path("file").touch()

    with pytest.raises(ConfigError, match="run_dir file is no folder"):
        new_run_dir(CONFIG, Path("file"), None)


def test_a_folder_that_cannot_be_made_is_an_error_that_names_run_dir() -> None:
    Path("runs").touch()

    with pytest.raises(
        MachineError, match=r"cannot write runs/a.b: .*; use run_dir=FOLDER for a pl"
    ):
        new_run_dir(CONFIG, None, None)
    with pytest.raises(MachineError, match=r"cannot write runs/a: .*; use run_dir=FOLDER for a pl"):
        new_run_dir(CONFIG, Path("runs/a"), None)


def test_a_run_that_is_interrupted_at_once_leaves_no_folder() -> None:
    run = new_run_dir(CONFIG, None, None)

    with pytest.raises(KeyboardInterrupt), locked_run_dir(run, ONE_PROCESS):
        raise KeyboardInterrupt

    assert not run.exists()


@pytest.mark.parametrize(
    "name", ["run.json", "launch", "checkpoints/step-00000001.ckpt", "model/README.md", "log.txt"]
)
def test_an_interrupted_run_that_holds_anything_keeps_its_folder(name: str) -> None:
    run = new_run_dir(CONFIG, None, None)

    with pytest.raises(KeyboardInterrupt), locked_run_dir(run, ONE_PROCESS):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).touch()
        raise KeyboardInterrupt

    assert (run / name).is_file()


def test_a_run_that_another_process_holds_keeps_its_folder() -> None:
    run = new_run_dir(CONFIG, None, None)

    with locked(run):
        with pytest.raises(MachineError, match="is in use by"), locked_run_dir(run, ONE_PROCESS):
            pass

        assert (run / "lock").is_file()


def test_a_second_run_of_a_name_says_how_to_go_on_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", logger="wavenet")

    new_run_dir(CONFIG, None, None)
    assert caplog.messages == []
    new_run_dir(CONFIG, None, None)

    first = Path("runs") / CONFIG.name
    assert caplog.messages == [f"a new run; resume={first} goes on with the first"]
