"""Sweeps: several trainings of one command line, in sequence and with Hydra's plugins."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from tests.commands import Done, Run, command_line, environment
from tests.forks import CommandProcess
from wavenet.cli import sweep
from wavenet.cli.compose import quoted
from wavenet.utils.errors import ConfigError

TRAIN = (
    "recipe=folder",
    "model=tiny",
    "audio.sample_rate=8000",
    "data.test_fraction=0.2",
    "data.valid_fraction=0.2",
    "trainer.max_steps=2",
    "trainer.global_batch_size=2",
    "trainer.segment_length=200",
    "trainer.val_every_n_steps=1",
    "trainer.preview_seconds=0",
    "trainer.val_seconds=0.05",
    "evaluation.sample_seconds=0",
    "evaluation.eval_seconds=0.05",
)
MIXTURE = (  # for which nothing is compiled, in each of the processes of a launcher
    *("model.output_distribution=gaussian_mixture", "model.input_type=scalar"),
    "model.quantization_channels=65536",
)


def summary(folder: str) -> list[dict[str, Any]]:
    """Return the summary of a sweep."""
    found: list[dict[str, Any]] = json.loads((Path(folder) / "summary.json").read_text())
    return found


def run_process(line: list[str], folder: Path) -> Done:
    """Run a command line in another process."""
    done = subprocess.run(
        line, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def train_process(tmp_path: Path, *words: str) -> Done:
    """Run `wavenet-train` in another process."""
    return CommandProcess(tmp_path, "train", *words).wait()


@given(st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"])))
def test_quoted_text_is_taken_literally_by_hydra(text: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"hydra.sweep.dir={quoted(text)}"])

    found = override.value()

    assert str(getattr(found, "text", found)).replace(r"\${", "${") == text


@pytest.mark.parametrize(
    ("job", "overrides", "name"),
    [
        (0, ("optim.lr=0.001",), "0-optim.lr-0.001"),
        (12, ("optim.lr=0.001", "model=small"), "12-optim.lr-0.001-model-small"),
        (1, ("model.dilations=[1,2]", "name='a b/../c'"), "1-model.dilations-1-2-name-a-b-..-c"),
        (3, (), "3"),
        (0, ("optim.lr=0.0012520653814999472", "x=1e-05"), "0-optim.lr-0.001252-x-1e-05"),
        (1, ("a" * 300,), "1-" + "a" * 118),
    ],
)
def test_run_is_named_after_its_differing_overrides(
    job: int, overrides: tuple[str, ...], name: str
) -> None:
    assert sweep.run_name(job, overrides) == name
    assert "/" not in name


def test_common_overrides_are_not_part_of_the_name() -> None:
    overrides = ("recipe=demo", "optim.lr=0.001", "model=small")

    assert sweep.differing(overrides, ("recipe", "model")) == ("optim.lr=0.001",)
    assert sweep.differing(("seed=1", "seed=2"), ()) == ("seed=2",)


def test_each_sweep_has_its_own_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)

    folders = [sweep.new_folder(None, ["recipe=demo"]) for _ in range(2)]
    several = sweep.new_folder(None, ["recipe=demo,yesno"])

    assert [folder.as_posix() for folder in folders] == ["runs/sweep/demo", "runs/sweep/demo-2"]
    assert several.as_posix() == "runs/sweep/train"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        sweep.new_folder("mine", [])


def test_failed_job_reports_infinity_to_the_sweeper(tmp_path: Path) -> None:
    good = sweep.JobResult(job=0, overrides=(), folder="a", bits=4.5)
    bad = sweep.JobResult(job=1, overrides=(), folder="b", code=3, error="DataError: none")
    none = sweep.JobResult(job=2, overrides=(), folder="c")

    worth = [sweep.record(tmp_path, one) for one in (bad, none, good)]

    assert worth == [math.inf, math.inf, 4.5]
    assert sweep.conclude(tmp_path) == [good, bad, none]


@pytest.mark.parametrize("verb", ["prepare", "generate", "evaluate", "benchmark-train", "inspect"])
def test_only_train_accepts_multirun(run: Run, verb: str) -> None:
    done = run(verb, "-m", "debug=true,false")

    assert done.returncode == 2
    assert f"wavenet-{verb} has no -m: sweeps are for training" in done.stderr
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("optim.lrr=1,2", "did you mean 'optim.lr'"),
        ("model=tiny,tinny", "did you mean 'tiny'"),
        ("optim.lr=1,", "optim.lr=1,"),
        ("resume=runs/demo", "-m starts new runs"),
        ("+foo=1,2", "configs are closed"),
    ],
)
def test_invalid_sweep_exits_2_before_any_work(run: Run, argument: str, words: str) -> None:
    done = run("train", argument, "--multirun")

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(Path().glob("runs/sweep/*"))


WITHOUT_PLUGINS = """
import sys
sys.modules["hydra_plugins"] = None
from wavenet.cli.main import train
for word in sys.argv[1:]:
    sys.argv = ["wavenet-train", "-m", "optim.lr=1,2", word]
    try:
        train()
    except SystemExit as end:
        print(word, end.code)
"""


@pytest.mark.slow
def test_a_missing_plugin_is_named_with_its_extra(tmp_path: Path) -> None:
    words = ("launcher=joblib", "launcher=submitit_slurm", "sweeper=optuna")

    done = run_process([sys.executable, "-c", WITHOUT_PLUGINS, *words], tmp_path)

    assert done.stdout.splitlines() == [f"{word} 2" for word in words], done.stderr
    assert done.stderr.count("pip install 'torch-wavenet[sweep]'") == len(words)
    assert not list(tmp_path.glob("runs/sweep/*"))


@pytest.mark.slow
def test_sweep_runs_every_job_and_lists_the_best_first(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "a,b=c [d] ${e}"
    odd.symlink_to(recordings)

    arguments = (*TRAIN, "optim.lr=1", "-m", "optim.lr=-1,1e-2,1e-7")  # the last one counts

    done = run("train", *arguments, f"data.root={odd}", "run_dir=o,p")

    assert done.returncode == 2  # the worst
    assert "job 0 failed (optim.lr=-1): ConfigError: optim: lr must be positive" in done.stderr
    found = summary("o,p")
    assert [one["job"] for one in found] == [1, 2, 0]
    assert found[0]["bits"] < found[1]["bits"]
    assert found[0]["overrides"] == ["optim.lr=0.01"]
    assert found[0]["folder"] == "o,p/1-optim.lr-0.01"
    config = json.loads((tmp_path / "o,p/1-optim.lr-0.01/model/config.json").read_text())
    assert config["training"]["bits_per_sample"] == found[0]["bits"]
    table = done.stdout.splitlines()
    assert [line.split()[0] for line in table if "optim.lr=" in line] == ["1", "2", "0"]


@pytest.mark.skipif("WAVENET_FULL" not in os.environ, reason="starts Python anew: --full runs it")
def test_joblib_jobs_run_in_parallel_processes(recordings: Path, tmp_path: Path) -> None:
    words = (*TRAIN, *MIXTURE, "optim.lr=1e-2,-1", "launcher=joblib", f"data.root={recordings}")

    # joblib ends its workers at the exit of Python, which a forked process does not have
    done = run_process(command_line("train", "-m", *words), tmp_path)

    assert done.returncode == 2, done.stderr
    found = summary(str(tmp_path / "runs/sweep/folder"))
    assert [one["job"] for one in found] == [0, 1]
    assert "job 1 failed" in done.stderr
    assert (tmp_path / found[0]["folder"] / "run.json").is_file()


@pytest.mark.slow
def test_submitit_jobs_run_in_submitted_processes(recordings: Path, tmp_path: Path) -> None:
    done = train_process(
        tmp_path,
        "-m",
        *TRAIN,
        *MIXTURE,
        "optim.lr=1e-2,-1",
        "launcher=submitit_local",
        f"data.root={recordings}",
    )

    assert done.returncode == 2, done.stderr
    found = summary(str(tmp_path / "runs/sweep/folder"))
    assert [(one["job"], one["bits"] is None) for one in found] == [(0, False), (1, True)]
    assert list((tmp_path / "runs/sweep/folder/logs").iterdir())


@pytest.mark.slow
def test_sweeper_gets_the_bits_per_sample_of_each_run(recordings: Path, tmp_path: Path) -> None:
    arguments = ("sweeper=optuna", "hydra.sweeper.n_trials=2", f"data.root={recordings}")

    done = train_process(tmp_path, "-m", *TRAIN, "optim.lr=interval(1e-4,1e-2)", *arguments)

    assert done.returncode == 0, done.stderr
    found = summary(str(tmp_path / "runs/sweep/folder"))
    assert len(found) == 2
    best = (tmp_path / "runs/sweep/folder/optimization_results.yaml").read_text()
    assert f"best_value: {found[0]['bits']}" in best
