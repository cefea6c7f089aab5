"""Command lines as people type them: a positional model, `--key value`, suggestions."""

import re
from pathlib import Path

import pytest
import torch

from tests.commands import Run
from wavenet.checkpoint import save
from wavenet.cli.commands import COMMANDS
from wavenet.cli.words import NAMES_ELSEWHERE, as_overrides, known_keys, nearest_keys
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("verb", "given", "expected"),
    [
        ("generate", "runs/x/model", "checkpoint=runs/x/model"),
        ("generate", "demo_voice seconds=5", "checkpoint=demo_voice seconds=5"),
        ("evaluate", "seed=1 runs/x/model --json", "seed=1 checkpoint=runs/x/model json=true"),
        ("inspect", "runs/x/model", "checkpoint=runs/x/model"),
        ("push", "runs/x/model --repo=a/b", "checkpoint=runs/x/model repo=a/b"),
        ("import", "a.pth --output b", "source=a.pth output=b"),
        ("import", "--config a.json", "config=a.json"),
        ("generate", "--checkpoint runs/x/model --seconds 5", "checkpoint=runs/x/model seconds=5"),
        ("generate", "--top-k=3 --speaker -1", "top_k=3 speaker=-1"),
        ("generate", "--overwrite model", "overwrite=true checkpoint=model"),
        ("generate", "--overwrite false model", "overwrite=false checkpoint=model"),
        ("generate", "--input a=b.wav", "input=a=b.wav"),
        ("train", "--trainer.max_steps 9 --optim.lr=1e-3", "trainer.max_steps=9 optim.lr=1e-3"),
        ("train", "--recipe folder -m seed=1,2", "recipe=folder -m seed=1,2"),
        ("train", "--optim.betas.0 0.5", "optim.betas.0=0.5"),
        ("train", "word", "word"),
        ("generate", "--cfg job model", "--cfg job checkpoint=model"),
        ("generate", "-c job model", "-c job checkpoint=model"),
        ("benchmark", "train", "train"),
    ],
)
def test_words_become_overrides(verb: str, given: str, expected: str) -> None:
    assert as_overrides(verb, given.split()) == expected.split()


@pytest.mark.parametrize(
    ("verb", "given", "message"),
    [
        (
            "generate",
            "demo_voice clip.wav",
            "'clip.wav' has no key, and demo_voice is the model (checkpoint=demo_voice): write",
        ),
        (
            "generate",
            "clip.wav --checkpoint piano",
            "'clip.wav' has no key, and piano is the model",
        ),
        ("generate", "clip.wav piano", "'clip.wav' has no key, and piano is the model"),
        ("generate", "piano overwrite", "write overwrite=true"),
        ("generate", "piano {0}", "write input={0} to"),
        ("push", "piano owner/name", "write repo=owner/name"),
        ("import", "a.pth b", "and a.pth is the source (source=a.pth): write output=b for"),
        ("benchmark", "piano piano", "write KEY=VALUE (--help all lists keys)"),
    ],
)
def test_a_second_word_without_a_key_is_refused(verb: str, given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        as_overrides(verb, given.split())


def test_a_model_whose_folder_has_an_equals_sign_is_positional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/lr=1/model").mkdir(parents=True)

    assert as_overrides("generate", ["runs/lr=1/model"]) == ["checkpoint=runs/lr=1/model"]


@pytest.mark.parametrize("given", [["--seconds"], ["--seconds", "--overwrite"]])
def test_an_option_without_a_value_is_refused(given: list[str]) -> None:
    with pytest.raises(ConfigError, match="--seconds has no value: write --seconds VALUE"):
        as_overrides("generate", given)


@pytest.mark.parametrize(
    ("verb", "key", "first"),
    [
        ("generate", "temp", "temperature"),
        ("train", "lr", "optim.lr"),
        ("train", "max_steps", "trainer.max_steps"),
        ("train", "batch_size", "trainer.global_batch_size"),
        ("train", "steps", "trainer.max_steps"),
        ("train", "optim.lrr", "optim.lr"),
        ("train", "output_dir", "run_dir"),
        ("train", "learning_rate", "optim.lr"),
        ("generate", "output_dir", "output"),
        ("inspect", "output_dir", "output"),
        ("prepare", "output_dir", "data.processed_dir"),
        ("generate", "model", "checkpoint"),
        ("train", "sample_rate", "audio.sample_rate"),
        ("import", "input", "source"),
    ],
)
def test_the_nearest_key_comes_first(verb: str, key: str, first: str) -> None:
    assert nearest_keys(key, known_keys(verb)).startswith(f"; did you mean '{first}'")


def test_a_key_of_another_project_is_suggested_alone() -> None:
    assert nearest_keys("output_dir", known_keys("inspect")) == (
        "; did you mean 'output'? See --help all"
    )


@pytest.mark.parametrize("verb", COMMANDS)
def test_keys_like_nothing_are_answered_by_help_alone(verb: str) -> None:
    assert nearest_keys("zzzzzzzz", known_keys(verb)) == "; see --help all"


def test_every_name_of_other_projects_stands_for_keys_that_exist() -> None:
    known = {key for verb in COMMANDS for key in known_keys(verb)}

    assert {key for keys in NAMES_ELSEWHERE.values() for key in keys} <= known


@pytest.mark.parametrize("key", ["overwrite", "x", "zzzzzzzz", "e"])
def test_at_most_five_keys_of_this_command_are_listed(key: str) -> None:
    known = known_keys("train")

    text = nearest_keys(key, known)

    listed = [name for name in known if name in text.replace(",", "").replace("'", "").split()]
    assert len(listed) <= 5
    assert len(text) < 250
    assert text.endswith("ee --help all")


def test_commands_take_a_positional_model_and_options(run: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = WaveNetConfig(dilations=(1, 2), residual_channels=4, skip_channels=4)
    save(WaveNet(config), tmp_path / "model", AudioConfig(sample_rate=8000))

    done = run("generate", "model", "--seconds", "0.05", "--backend=reference", "output=a.wav")
    plain = run("generate", "checkpoint=model", "seconds=0.05", "backend=reference", "output=b.wav")
    table = run("inspect", "model")

    assert (done.returncode, plain.returncode, table.returncode) == (0, 0, 0), done.stderr
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert table.stdout


def test_the_config_that_hydra_shows_has_the_paths(run: Run) -> None:
    done = run("generate", "a b/model", "--cfg", "job", "output=c,d.wav")

    assert done.returncode == 0, done.stderr
    assert "checkpoint: a b/model" in done.stdout
    assert "output: c,d.wav" in done.stdout


@pytest.mark.parametrize("place", [0, 1, 3])
def test_the_config_is_shown_wherever_its_flag_stands(place: int, run: Run) -> None:
    words = ["recipe=folder", "data.root=a b", "model=small"]
    words[place:place] = ["--cfg", "job"]

    done = run("train", *words)

    assert done.returncode == 0, done.stderr
    assert "root: a b" in done.stdout
    assert "segment_length: 4096" in done.stdout, "a value, not what it is computed from"


def test_unknown_options_of_commands_suggest_keys(run: Run) -> None:
    done = run("generate", "--temp", "0.5")

    assert done.returncode == 2
    assert done.stderr == (
        "ConfigError: unknown '--temp'; did you mean 'temperature'? See --help all\n"
    )
    assert not done.stdout
