"""`wavenet-train init=MODEL` on small data: first weights, exact resume, frozen parts, refusals."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.commands import Run
from tests.process_groups import TRAIN, assert_same_bits
from wavenet.checkpoint import load, read_config, save
from wavenet.config import AudioConfig, LocalConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.model_card import BaseModel
from wavenet.presets import MEL_PRESETS
from wavenet.training.checkpointing import find_checkpoints, read_checkpoint
from wavenet.training.init_weights import SPEAKERS

pytestmark = pytest.mark.slow
STEPS = (
    *("trainer.global_batch_size=2", "trainer.max_steps=20", "trainer.save_last_k=9"),
    *("trainer.save_every_n_steps=10", "trainer.val_every_n_steps=10", "model.dropout=0.1"),
)
FROZEN = ("input.", "stack.blocks.0.")
INIT = ("init=base/model", "optim.lr=0.003", "model=tiny")


@pytest.fixture
def base(run: Run, recordings: Path) -> Path:
    """A trained model."""
    words = (f"data.root={recordings}", "license=MIT", "data_license=CC0-1.0")
    done = run("train", *TRAIN, *STEPS, *words, "run_dir=base")
    assert done.returncode == 0, done.stderr
    return Path("base/model")


def as_if_killed(run_dir: Path, keep: int) -> Path:
    """Copy the first checkpoints of a run."""
    cut = Path("cut")
    (cut / "checkpoints").mkdir(parents=True)
    shutil.copy(run_dir / "run.json", cut)
    for path in find_checkpoints(run_dir)[:keep]:
        shutil.copy(path, cut / "checkpoints")
    return cut


@pytest.mark.parametrize("options", [(), ("trainer.freeze=[input,stack.blocks.0]",)])
def test_a_run_starts_from_the_model_and_resumes_exactly(
    run: Run, base: Path, recordings: Path, options: tuple[str, ...]
) -> None:
    words = (*TRAIN, *STEPS, f"data.root={recordings}", *INIT, *options)

    done = run("train", *words, "run_dir=tuned")

    assert done.returncode == 0, done.stderr
    assert "init: weights of base/model, trained on folder for 20 steps" in done.stderr
    start, weights = read_checkpoint(find_checkpoints(Path("tuned"))[0]), load(base)
    expected = weights.model.state_dict()
    assert start["step"] == 0
    for part in ("model", "ema_model"):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in start[part].items())
    assert start["history"]["val"] == [(0, weights.training.bits_per_sample)]
    info = read_config(Path("tuned/model")).training
    assert info.base_model is not None
    assert info.base_model.startswith("the model directory ")
    assert info.base_model.endswith("/base/model")
    (lineage,) = info.lineage
    assert lineage == BaseModel(
        name=info.base_model, data="folder", license="MIT", data_license="CC0-1.0"
    )
    assert info.license == "MIT"
    card = Path("tuned/model/README.md").read_text()
    assert "| License of the data | not given; of the base model: CC0-1.0 |" in card
    if options:
        counts = {name: weight.numel() for name, weight in weights.model.named_parameters()}
        left = sum(n for name, n in counts.items() if not name.startswith(FROZEN))
        assert f"training {left:,} of {sum(counts.values()):,} parameters" in done.stderr
        tuned = load("tuned/model").model.state_dict()
        for name, tensor in tuned.items():
            assert torch.equal(tensor, expected[name]) == name.startswith(FROZEN), name

    shutil.rmtree("base")  # no longer needed
    words = ("evaluation.sample_seconds=0.05", "evaluation.num_resynthesis=0")
    done = run("evaluate", "checkpoint=tuned/model", *words)
    assert done.returncode == 0, done.stderr
    assert "license: MIT; data license: CC0-1.0" in Path("tuned/evaluation.html").read_text()
    for keep in (1, 2):
        cut = as_if_killed(Path("tuned"), keep)
        assert run("train", "resume=cut").returncode == 0
        assert_same_bits(Path("tuned"), cut)
        assert json.loads((cut / "run.json").read_text())["init"].endswith("/base/model")
        assert read_config(cut / "model").training == info
        shutil.rmtree(cut)


def test_new_speakers_join_and_the_mel_statistics_stay(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    for speaker in ("bob", "eve"):
        shutil.copytree(recordings, tmp_path / "voices" / speaker)
    mel = dataclasses.replace(MEL_PRESETS["8khz"], mean=(-3.0,), std=(2.0,))
    local = LocalConfig(in_channels=64, channels=4, upsample_scales=(8, 10))
    shape = WaveNetConfig(dilations=(1, 2), residual_channels=8, num_speakers=2, local=local)
    audio = AudioConfig(sample_rate=8000, mel=mel, speaker_names=("ann", "bob"))
    save(model := WaveNet(shape), "base", audio)
    words = (word for word in TRAIN if not word.startswith(("model=", "audio.")))
    data = ("data.root=voices", "data.speaker_from_folder=true", "data.use_speakers=true")

    done = run("train", *words, *data, "init=base", "trainer.max_steps=1", "run_dir=tuned")

    assert done.returncode == 0, done.stderr
    assert "speakers: copied bob; new, from the mean of all: eve; left out: ann" in done.stderr
    assert "mean and std of the mel bands are those of the model" in done.stderr
    assert load("tuned/model").audio == dataclasses.replace(audio, speaker_names=("bob", "eve"))
    start, name = read_checkpoint(find_checkpoints(Path("tuned"))[0]), SPEAKERS
    old = model.state_dict()[name]
    torch.testing.assert_close(start["model"][name], torch.stack([old[1], old[:2].mean(0), old[2]]))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("init=nowhere",), 4, "there is no model directory nowhere"),
        (("init=base/model", "resume=base"), 2, "init starts a new run and resume continues one"),
        (("init=base/model", "audio.sample_rate=16000"), 2, "is 8000 in it and 16000 on the comma"),
        (("init=base/model", "model=small"), 2, "in this run (and "),
        (("init=base/model", "trainer.freeze=[hed]"), 2, "did you mean 'head'"),
        (("init_ignore=[head]",), 2, "init must be given with init_ignore"),
    ],
)
def test_a_refusal_leaves_no_run_behind(
    run: Run, recordings: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    Path("base").mkdir()
    save(WaveNet(WaveNetConfig(dilations=(1, 2))), "base/model", AudioConfig(sample_rate=8000))

    done = run("train", "recipe=folder", f"data.root={recordings}", "run_dir=tuned", *words)

    assert done.returncode == code
    assert message in done.stderr
    assert not Path("tuned").exists()
