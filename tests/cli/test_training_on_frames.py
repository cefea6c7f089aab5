"""From recordings with frames beside them to a model, its evaluation and what it generates."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.commands import Run
from wavenet.checkpoint import load

pytestmark = pytest.mark.slow

RATE, HOP = 8000, 80
TRAIN = (
    "recipe=folder",
    "model=tiny",
    "audio.sample_rate=8000",
    "audio.frames={channels:3,hop_length:80,description:three sines}",
    "model.local={channels:4,lookahead:1}",
    "data.normalize_frames=true",
    "data.test_fraction=0.2",
    "data.valid_fraction=0.2",
    "trainer.global_batch_size=2",
    "trainer.segment_length=200",
    "trainer.val_every_n_steps=3",
    "trainer.preview_seconds=0.05",
    "evaluation.sample_seconds=0.1",
    "evaluation.num_resynthesis=1",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five recordings of half a second, each with its frames beside it."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(5):
        rng, t = np.random.default_rng(number), np.arange(RATE // 2) / RATE
        signal = 0.3 * np.sin(2 * np.pi * (150 + 20 * number) * t)
        soundfile.write(folder / f"{number}.wav", signal + 0.01 * rng.normal(size=len(t)), RATE)
        frames = rng.normal(size=(3, len(t) // HOP + 1)) * [[1], [10], [0]] + [[0], [100], [5]]
        np.save(folder / f"{number}.npy", frames)
    return folder


def test_training_evaluation_and_generation_from_frames(
    run: Run, root: Path, tmp_path: Path
) -> None:
    done = run("train", *TRAIN, f"data.root={root}", "trainer.max_steps=6", "run_dir=run")
    assert done.returncode == 0, done.stderr
    frames = load(tmp_path / "run" / "model").audio.frames
    assert frames is not None
    assert frames.description == "three sines"
    assert frames.mean[1] == pytest.approx(100, abs=3)
    assert frames.std[2] == 1.0
    assert (tmp_path / "run" / "samples" / "resynthesis-1.wav").is_file()

    own = run("evaluate", "checkpoint=run/model", "--json", "output=null")
    there = run(  # foreign data: the same recordings, prepared for the model
        *("evaluate", "checkpoint=run/model", "--json", "output=null", f"data.root={root}"),
        *("data.processed_dir=other", "data.test_fraction=0.2", "data.valid_fraction=0.2"),
    )
    assert own.returncode == 0, own.stderr
    assert there.returncode == 0, there.stderr
    bits = [json.loads(one.stdout)["bits_per_sample"]["model"] for one in (own, there)]
    assert bits[0] == bits[1]

    generated = run("generate", "checkpoint=run/model", f"input={root}/0.npy", "output=out.wav")
    assert generated.returncode == 0, generated.stderr
    assert len(soundfile.read("out.wav")[0]) == (RATE // 2 // HOP + 1) * HOP
    assert "`frames.npy`: three sines, an array" in (tmp_path / "run/model/README.md").read_text()


def test_a_resumed_run_equals_one_that_was_not_stopped(
    run: Run, root: Path, tmp_path: Path
) -> None:
    options = (*TRAIN, f"data.root={root}", "evaluation.sample_seconds=0")
    done = run("train", *options, "trainer.max_steps=6", "run_dir=whole")
    assert done.returncode == 0, done.stderr
    schedule = "optim.lr_schedule_steps=6"
    done = run("train", *options, "trainer.max_steps=3", schedule, "run_dir=parts")
    assert done.returncode == 0, done.stderr
    done = run("train", "resume=parts", "trainer.max_steps=6")
    assert done.returncode == 0, done.stderr

    digests = [
        json.loads((tmp_path / name / "model" / "config.json").read_text())["sha256"]["weights"]
        for name in ("whole", "parts")
    ]
    assert digests[0] == digests[1]


def test_frames_of_a_folder_of_their_own_and_one_that_is_missing(run: Run, root: Path) -> None:
    Path("features=1").mkdir()
    for path in root.glob("*.npy"):
        path.rename(Path("features=1") / path.name)
    options = (*TRAIN, f"data.root={root}", "trainer.max_steps=1", "evaluation.sample_seconds=0")

    missing = run("train", *options, "run_dir=missing")
    found = run("train", *options, "data.frames_dir=features=1", "run_dir=found")

    assert missing.returncode == 3
    assert "has no frames of 0.wav: add 0.npy or 0.safetensors" in missing.stderr
    assert found.returncode == 0, found.stderr
    assert Path("found/model/config.json").is_file()


def test_frames_are_prepared_before_training(run: Run, root: Path) -> None:
    keys = ("audio.sample_rate=8000", "audio.frames={channels:3,hop_length:80}")
    prepared = run("prepare", *keys, f"data.root={root}", "data.processed_dir=clips")
    assert prepared.returncode == 0, prepared.stderr

    trained = run(
        *("train", *TRAIN, "data.processed_dir=clips", "data.root=null", "run_dir=run"),
        *("trainer.max_steps=1", "evaluation.sample_seconds=0"),
    )
    other = run(
        *("train", *TRAIN, "data.processed_dir=clips", "data.root=null", "run_dir=other"),
        *("audio.frames={channels:2,hop_length:80}", "trainer.max_steps=1"),
    )

    assert trained.returncode == 0, trained.stderr
    assert other.returncode == 3
    assert "has shape (3, 50), the model needs (2, 50)" in other.stderr
