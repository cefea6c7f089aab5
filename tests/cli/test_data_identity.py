"""A run and its model stay with their clips, whatever is prepared or asked for later."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import soundfile

from tests.commands import Run
from wavenet.checkpoint import load
from wavenet.data.manifest import read_manifest

pytestmark = pytest.mark.slow

TRAIN = (
    "recipe=folder",
    "model=tiny",
    "audio.sample_rate=8000",
    "trainer.max_steps=2",
    "trainer.global_batch_size=2",
    "trainer.segment_length=200",
    "trainer.preview_seconds=0",
    "evaluation.sample_seconds=0",
)
SPLIT = ("data.test_fraction=0.2", "data.valid_fraction=0.2")
EVALUATE = ("checkpoint=run/model", "evaluation.sample_seconds=0", "output=null", "json=true")


@pytest.fixture
def voices(recordings: Path, tmp_path: Path) -> Path:
    """Two speakers, a folder each, of three recordings."""
    for number, path in enumerate(sorted(recordings.glob("*.wav"))):
        place = tmp_path / "voices" / f"p{number % 2}" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return tmp_path / "voices"


def train(run: Run, root: Path, *more: str) -> None:
    done = run("train", *TRAIN, *SPLIT, f"data.root={root}", "run_dir=run", *more)
    assert done.returncode == 0, done.stderr


def test_a_run_and_its_model_remember_the_clips_and_the_split(run: Run, voices: Path) -> None:
    train(run, voices)

    config = json.loads(Path("run/run.json").read_text())
    identity = read_manifest(Path(config["data"]["processed_dir"])).identity
    assert config["dataset"] == dataclasses.asdict(identity)
    assert load("run/model").training.dataset == identity
    assert (identity.train, identity.valid, identity.test) == (4, 1, 1)


def test_evaluate_uses_the_runs_held_out_clips_after_another_preparation(
    run: Run, voices: Path
) -> None:
    train(run, voices)
    first = run("evaluate", *EVALUATE)
    assert first.returncode == 0, first.stderr

    again = ("data.test_fraction=0.5", "data.valid_fraction=0.3", f"data.root={voices}")
    assert run("prepare", "audio.sample_rate=8000", *again).returncode == 0
    second = run("evaluate", *EVALUATE)

    assert second.returncode == 0, second.stderr
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert json.loads(second.stdout)["clips"] == 1


def test_evaluate_refuses_training_recordings_of_another_preparation(
    run: Run, voices: Path
) -> None:
    train(run, voices)

    done = run("evaluate", *EVALUATE, f"data.root={voices}", "data.test_fraction=0.6")

    assert done.returncode == 3
    assert "trained or validated on 3 of the 4 held-out clips" in done.stderr
    assert "leave data.* out" in done.stderr


def test_evaluate_refuses_a_run_with_other_clips_and_shows_both(run: Run, voices: Path) -> None:
    train(run, voices)
    trained = load("run/model").training.dataset
    config = json.loads(Path("run/run.json").read_text())
    options = ("audio.sample_rate=8000", f"data.root={voices}", "data.processed_dir=other")
    assert run("prepare", *options, "data.speaker_from_folder=true").returncode == 0
    config["data"]["processed_dir"] = str(Path("other").resolve())
    Path("run/run.json").write_text(json.dumps(config))

    done = run("evaluate", *EVALUATE)

    assert done.returncode == 3
    assert f"run/model was trained with {trained}" in done.stderr
    assert f"holds the clips {read_manifest(Path('other')).identity}" in done.stderr


def test_evaluate_says_plainly_that_data_are_foreign(
    run: Run, voices: Path, tmp_path: Path
) -> None:
    train(run, voices)
    for number, path in enumerate(sorted(voices.rglob("*.wav"))):
        samples, rate = soundfile.read(path)
        (tmp_path / "foreign").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "foreign" / f"{number}.wav", samples[::-1], rate)

    done = run("evaluate", *EVALUATE, "data.root=foreign", "data.test_fraction=0.5")

    assert done.returncode == 0, done.stderr
    assert f"trained with the clips {load('run/model').training.dataset}; these are" in done.stderr
    assert "3 test clips, 2 s, foreign data" in json.loads(done.stdout)["facts"]["Held-out audio"]


def test_evaluate_refuses_clips_without_speakers_for_a_model_with_speakers(
    run: Run, voices: Path, tmp_path: Path
) -> None:
    speakers = ("data.speaker_from_folder=true", "data.use_speakers=true")
    train(run, voices, *speakers)
    for number, path in enumerate(sorted(voices.rglob("*.wav"))):
        samples, rate = soundfile.read(path)
        (tmp_path / "foreign").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "foreign" / f"{number}.wav", samples[::-1], rate)

    done = run("evaluate", *EVALUATE, "data.root=foreign")

    assert done.returncode == 3
    assert "trained with the speakers p0, p1, and prepared/foreign-8000-" in done.stderr
    assert "names none: prepare it with data.speaker_from_folder=true" in done.stderr


def test_a_run_keeps_its_clips_while_others_are_prepared(run: Run, voices: Path) -> None:
    train(run, voices)

    assert run("prepare", "audio.sample_rate=8000", f"data.root={voices}").returncode == 0
    done = run("train", "resume=run", "trainer.max_steps=4")

    assert done.returncode == 0, done.stderr
    assert len(list(Path("prepared").glob("voices-8000-????????"))) == 2


@pytest.mark.parametrize("named_folder", [False, True])
def test_resume_refuses_other_recordings_and_shows_both(
    run: Run, voices: Path, recordings: Path, named_folder: bool
) -> None:
    train(run, voices)
    before, trained = Path("run/run.json").read_text(), load("run/model").training.dataset
    overrides = [f"data.root={recordings}"]
    if named_folder:
        assert (
            run(
                "prepare", "audio.sample_rate=8000", *overrides, "data.processed_dir=other"
            ).returncode
            == 0
        )
        overrides = ["data.processed_dir=other"]

    done = run("train", "resume=run", "trainer.max_steps=4", *overrides)

    assert done.returncode == 3
    assert f"but run was trained with {trained}" in done.stderr
    assert "holds the clips " in done.stderr
    assert Path("run/run.json").read_text() == before


def test_resume_takes_the_same_recordings_from_elsewhere(run: Run, voices: Path) -> None:
    train(run, voices)
    shutil.move("voices", "moved")
    shutil.rmtree("prepared")

    done = run("train", "resume=run", "trainer.max_steps=4", "data.root=moved")

    assert done.returncode == 0, done.stderr


def test_speakers_that_no_recording_names_fail_before_any_work(
    run: Run, voices: Path, tmp_path: Path
) -> None:
    done = run("train", *TRAIN, f"data.root={voices}", "data.use_speakers=true", "run_dir=run")

    assert done.returncode == 2
    assert "no recording below" in done.stderr
    assert "set data.speaker_from_folder=true" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["voices"]
