"""Old names of config keys and of command line words are refused with the new name."""

import dataclasses
from typing import Any

import pytest

from tests.commands import Run
from wavenet.cli.commands import COMMANDS, TrainCommand
from wavenet.cli.words import check_words
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import EvaluationOptions
from wavenet.training.options import OptimOptions, RunConfig, TrainerOptions
from wavenet.utils.dataclass_io import from_dict, nested_dataclass
from wavenet.utils.errors import ConfigError
from wavenet.utils.renamed import RENAMED_COMMAND_KEYS, RENAMED_KEYS

SECTIONS = {
    "audio": AudioConfig,
    "model": WaveNetConfig,
    "data": DataOptions,
    "optim": OptimOptions,
    "trainer": TrainerOptions,
    "report": EvaluationOptions,
}


def has_key(cls: Any, path: str) -> bool:
    """Whether a dataclass has a dotted key."""
    name, _, rest = path.partition(".")
    field = next((one for one in dataclasses.fields(cls) if one.name == name), None)
    return field is not None and (not rest or has_key(nested_dataclass(cls, field), rest))


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_an_old_key_is_refused_on_the_command_line_with_the_new(old: str) -> None:
    new = RENAMED_KEYS[old]

    with pytest.raises(ConfigError, match=f"renamed to {new}"):
        check_words("train", [f"{old}=1"])
    assert not has_key(TrainCommand, old)
    assert has_key(TrainCommand, new) or new.startswith("optim=")


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_an_old_key_is_refused_in_a_file_with_the_new(old: str) -> None:
    section, *keys = old.split(".")
    inner: Any = 1
    for key in reversed(keys):
        inner = {key: inner}
    if section == "report":
        cls: Any = RunConfig
        inner = {"report": inner}
        old = "report"
    else:
        cls = SECTIONS[section]
        if len(keys) == 2 and f"{section}.{keys[0]}" in RENAMED_KEYS:
            old = f"{section}.{keys[0]}"  # its mapping is refused first

    with pytest.raises(ConfigError, match=f"renamed to {RENAMED_KEYS[old]}"):
        from_dict(cls, inner, "run.json" if section == "report" else f"run.json.{section}")


@pytest.mark.parametrize(
    ("verb", "old"), [(verb, old) for verb, keys in RENAMED_COMMAND_KEYS.items() for old in keys]
)
def test_an_old_key_of_a_command_is_refused_with_the_new(verb: str, old: str) -> None:
    new = RENAMED_COMMAND_KEYS[verb][old]

    with pytest.raises(ConfigError, match=f"renamed to {new}"):
        check_words(verb, [f"{old}=1"])
    assert has_key(COMMANDS[verb].options, new.partition(",")[0])


@pytest.mark.parametrize(
    ("verb", "old", "new"),
    [
        ("train", "audio=16khz", "audio.sample_rate=16000"),
        ("train", "audio=22khz", "audio.sample_rate=22050"),
        ("train", "audio=44khz", "audio.sample_rate=44100"),
        ("prepare", "audio=mel_r9y9", "audio.mel=r9y9"),
        ("train", "audio.mel=${mel:tacotron2}", "audio.mel=tacotron2"),
        ("train", "cluster=here", "launcher=basic"),
        ("train", "cluster=cores", "launcher=joblib"),
        ("train", "cluster=local", "launcher=submitit_local"),
        ("train", "cluster=slurm", "launcher=submitit_slurm"),
        ("train", "search=grid", "sweeper=basic"),
        ("train", "search=optuna", "sweeper=optuna"),
        ("train", "cluster=here,cores", "launcher"),
        ("train", "report=default", "evaluation=base"),
        ("train", "report={}", "evaluation"),
        ("train", "optim.name=adamw", "optim=adamw"),
        ("train", "trainer.precision=fp32", "trainer.precision=32-true"),
        ("train", "trainer.precision=bf16", "trainer.precision=bf16-mixed"),
        ("evaluate", "shard=all/8", "merge_shards=8"),
        ("benchmark", "train", "the command wavenet-benchmark-train"),
    ],
)
def test_an_old_word_is_refused_with_the_new(run: Run, verb: str, old: str, new: str) -> None:
    done = run(verb, old)

    assert done.returncode == 2
    assert done.stderr == f"ConfigError: {old!r}: renamed to {new}\n"
