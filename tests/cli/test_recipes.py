"""Every recipe composes and takes a training step on a small corpus of its layout."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.cli.test_compose import plain
from tests.commands import ROOT, Run
from wavenet.checkpoint import load
from wavenet.data.corpora import CORPORA
from wavenet.data.corpora.asterisk_voices import VOICES

RECIPES = sorted(path.stem for path in (ROOT / "conf" / "recipe").glob("*.yaml"))
SMALL = (
    "trainer.max_steps=1",
    "trainer.segment_length=400",
    "trainer.global_batch_size=2",
    "trainer.precision=32-true",
    "trainer.val_every_n_steps=1",
    "trainer.val_seconds=0.05",
    "trainer.preview_seconds=0",
    "trainer.num_workers=0",
    "model.dilations=[1,2]",
    "model.residual_channels=4",
    "model.gate_channels=8",
    "model.skip_channels=4",
    "model.head_channels=4",
    "evaluation.sample_seconds=0",
    "data.download=false",
    "data.skip_invalid=true",
    "data.root=corpus",
    "run_dir=run",
)


@dataclass(frozen=True)
class Tree:
    """A small corpus: paths of its recordings, and its text files."""

    names: tuple[str, ...]
    texts: dict[str, str]


def many(pattern: str, *speakers: str, count: int = 4) -> tuple[str, ...]:
    return tuple(pattern.format(s=s, n=n) for s in speakers or ("",) for n in range(count))


LJ = many("wavs/LJ001-000{n}.wav")
TREES = {
    "asterisk_voices": Tree(many("{s}/a-{n}.flac", *VOICES), {}),
    "chorales": Tree(
        many("{s}p-{n}.flac"), dict.fromkeys(many("p-{n}.csv"), "0,0.5,60\n0.5,1,64\n")
    ),
    "cmu_arctic": Tree(many("cmu_us_{s}_arctic/wav/arctic_a000{n}.wav", "bdl", "slt"), {}),
    "libritts": Tree(many("train-clean-100/{s}/1/{s}_1_000000_00000{n}.wav", "19", "26"), {}),
    "ljspeech": Tree(
        LJ, {"metadata.csv": "".join(f"{Path(name).stem}|text|text\n" for name in LJ)}
    ),
    "vctk": Tree(many("wav48_silence_trimmed/{s}/{s}_00{n}_mic1.flac", "p225", "p226"), {}),
    "yesno": Tree(tuple("_".join(f"{n:08b}") + ".wav" for n in range(60)), {}),
    "folder": Tree(many("a{n}.wav"), {}),
}


def corpus(folder: Path, name: str, sample_rate: int) -> None:
    """Make a small corpus."""
    tree, rng = TREES[name], np.random.default_rng(0)
    for path in tree.names:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        samples = 0.05 * rng.standard_normal(sample_rate // 2)
        soundfile.write(folder / path, samples, sample_rate, subtype="PCM_16")
    for path, text in tree.texts.items():
        (folder / path).write_text(text)


def test_every_corpus_has_a_recipe() -> None:
    assert CORPORA.keys() <= {*RECIPES}


@pytest.mark.parametrize(
    ("recipe", "words", "temperature"),
    [
        ("vocoder", (), 0.85),
        ("ljspeech", (), 0.85),
        ("libritts", (), 0.85),
        ("cmu_arctic", (), 0.85),
        ("folder", ("model=vocoder", "audio.mel=8khz"), 0.85),
        ("vocoder", ("evaluation.temperature=1",), 1.0),
        ("demo", (), 0.7),
        ("demo_unconditional", (), 1.0),
        ("folder", (), 1.0),
    ],
)
def test_the_temperature_suits_the_model(
    recipe: str, words: tuple[str, ...], temperature: float
) -> None:
    composed = plain(f"recipe={recipe}", "data.root=x", *words)

    assert composed["evaluation"]["temperature"] == temperature


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_a_step(recipe: str, run: Run, tmp_path: Path) -> None:
    composed = plain(f"recipe={recipe}", "data.root=x")
    named, rate = composed["data"]["corpus"], composed["audio"]["sample_rate"]
    corpus(tmp_path / "corpus", named, rate)

    done = run("train", f"recipe={recipe}", *SMALL)

    assert done.returncode == 0, done.stderr
    loaded = load(tmp_path / "run" / "model")
    config = json.loads((tmp_path / "run" / "run.json").read_text())
    assert config["name"] == recipe
    assert loaded.training.steps == 1
    temperature = composed["evaluation"]["temperature"]
    assert loaded.training.temperature == (None if temperature == 1 else temperature)
    assert bool(loaded.audio.features) == (loaded.model.config.local is not None)
    assert (loaded.model.config.num_speakers > 0) == config["data"]["use_speakers"]
    assert all(bool(torch.isfinite(p).all()) for p in loaded.model.parameters())
