"""An evaluation in shards: merged results equal those of one process."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.commands import Done, Run
from wavenet.checkpoint import save
from wavenet.config import AudioConfig, LocalConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.presets import MEL_PRESETS

RATE = 8000
MEL = MEL_PRESETS["8khz"]
SHAPE: dict[str, Any] = {
    "dilations": (1, 2, 4),
    "residual_channels": 8,
    "gate_channels": 16,
    "skip_channels": 8,
    "head_channels": 8,
}
DATA = (
    "data.root=recordings",
    "data.processed_dir=clips",
    "data.speaker_from_folder=true",
    "data.test_fraction=0.7",
    "data.valid_fraction=0.1",
)
RESYNTHESIS = (
    "evaluation.num_resynthesis=2",
    "evaluation.resynthesis_seconds=0.1",
    "evaluation.temperature=0.8",
)
FREE = ("evaluation.sample_seconds=0.02", "evaluation.prompt_seconds=0.02")


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Recordings of two speakers, of unequal lengths."""
    rng = np.random.default_rng(0)
    for index in range(10):
        path = tmp_path / "recordings" / ("ann", "bob")[index % 2] / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        t = np.arange(1600 + 100 * index) / RATE
        tone = 0.3 * np.sin(2 * np.pi * (150 + 20 * index) * t)
        soundfile.write(path, tone + 0.01 * rng.standard_normal(len(t)), RATE)
    return tmp_path / "recordings"


def models(folder: Path) -> None:
    """An untrained model with two speakers and mel conditioning, and an unconditional one."""
    torch.manual_seed(0)
    local = LocalConfig(in_channels=MEL.n_mels, channels=8, upsample_scales=(8, 10), lookahead=1)
    conditional = WaveNet(WaveNetConfig(local=local, num_speakers=2, **SHAPE))
    audio = AudioConfig(sample_rate=RATE, mel=MEL, speaker_names=("ann", "bob"))
    save(conditional, folder / "conditional", audio)
    save(WaveNet(WaveNetConfig(**SHAPE)), folder / "free", AudioConfig(sample_rate=RATE))


@pytest.fixture
def evaluate(run: Run, voices: Path, tmp_path: Path) -> Run:
    """Evaluate on the recordings."""
    models(tmp_path)

    def evaluated(model: str, *overrides: str) -> Done:
        return run("evaluate", f"checkpoint={model}", *DATA, *overrides)

    return evaluated


def results(done: Done) -> dict[str, Any]:
    """The JSON that a command printed, and nothing else."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_merged_shards_equal_one_evaluation(evaluate: Run) -> None:
    single = results(evaluate("conditional", *RESYNTHESIS, "output=single.html", "--json"))

    for number in (2, 1):
        part = evaluate("conditional", *RESYNTHESIS, "output=page.html", f"shard={number}/2")
        assert part.returncode == 0, part.stderr
        assert not Path("page.html").exists()
    added = evaluate("conditional", *RESYNTHESIS, "output=page.html", "merge_shards=2", "--json")

    found = results(added)
    assert list(found["bits_per_sample"]) == list(single["bits_per_sample"])
    assert {"wrong speaker", "null speaker"} < single["bits_per_sample"].keys()
    assert found["bits_per_sample"] == pytest.approx(single["bits_per_sample"], rel=1e-12)
    assert found["resyntheses"] == single["resyntheses"]
    assert [one["number"] for one in found["resyntheses"]] == [1, 2]
    assert found["mean_metrics"] == single["mean_metrics"]
    assert list(found["mean_metrics"]) == [
        "resynthesis",
        "resynthesis, 3 passes",
        "quantized",
        "Griffin-Lim",
        "Griffin-Lim, 3 passes",
    ]
    assert found["clips"] == single["clips"] > 3
    one, other = (Path(name).read_text(encoding="utf-8") for name in ("single.html", "page.html"))
    assert other.count("<audio") == one.count("<audio") == 2 * 6
    sounds = [
        [part.split('"')[0] for part in page.split("audio/wav;base64,")[1:]]
        for page in (one, other)
    ]
    assert sounds[0] == sounds[1]


def test_the_table_of_merged_shards_equals_that_of_one_evaluation(evaluate: Run) -> None:
    single = evaluate("free", *FREE, "output=single.html")
    for number in (1, 2):
        assert evaluate("free", *FREE, f"shard={number}/2").returncode == 0

    added = evaluate("free", *FREE, "merge_shards=2")

    assert added.returncode == 0, added.stderr
    tables = [done.stdout.partition("real-time")[0] for done in (single, added)]
    assert tables[0] == tables[1]
    assert "adaptive linear prediction" in tables[0]
    assert Path("evaluation.html").read_text(encoding="utf-8").count("<audio") == 3


def test_more_shards_than_clips_can_be_merged(evaluate: Run) -> None:
    overrides = ("evaluation.sample_seconds=0", "evaluation.eval_seconds=0.1", "--json")
    single = results(evaluate("free", *overrides))
    for number in (1, 2):
        assert evaluate("free", *overrides, f"shard={number}/2").returncode == 0

    found = results(evaluate("free", *overrides, "merge_shards=2"))

    assert single["clips"] == 1
    assert found["bits_per_sample"] == pytest.approx(single["bits_per_sample"], rel=1e-12)


def test_missing_damaged_and_foreign_shards_are_named(evaluate: Run, tmp_path: Path) -> None:
    overrides = ("free", "evaluation.sample_seconds=0")
    for number in (1, 2, 4, 5, 6):
        assert evaluate(*overrides, f"shard={number}/6").returncode == 0
    assert evaluate(*overrides, "shard=2/6", "seed=7", "overwrite=true").returncode == 0
    other_options = ("evaluation.eval_seconds=1", "overwrite=true")
    assert evaluate(*overrides, "shard=4/6", *other_options).returncode == 0
    shutil.move("free", "kept")
    save(WaveNet(WaveNetConfig(**SHAPE)), tmp_path / "free", AudioConfig(sample_rate=RATE))
    assert evaluate(*overrides, "shard=5/6", "overwrite=true").returncode == 0
    shutil.rmtree("free")
    shutil.move("kept", "free")
    Path("evaluation-6-of-6.json").write_text("{}")

    done = evaluate(*overrides, "merge_shards=6")

    assert done.returncode == 3
    lines = [line.strip() for line in done.stderr.splitlines() if "of-6.json" in line]
    assert [line.split(".json ")[0] for line in lines] == [
        f"evaluation-{n}-of-6" for n in (2, 3, 4, 5, 6)
    ]
    assert (
        "belongs to seed=7, not 0: run the same command with shard=2/6 overwrite=true" in lines[0]
    )
    assert "is missing: run the same command with shard=3/6" in lines[1]
    assert "belongs to evaluation.eval_seconds=1.0, not None" in lines[2]
    assert "belongs to another checkpoint" in lines[3]
    assert "is not a shard's result" in lines[4]


def test_an_existing_shard_is_kept(evaluate: Run) -> None:
    overrides = ("free", "evaluation.sample_seconds=0", "shard=1/2")
    first = results(evaluate(*overrides, "--json"))
    path = Path("evaluation-1-of-2.json")
    path.write_text(path.read_text().replace('"seconds": 0.0', '"seconds": 5.0'))

    again, other = evaluate(*overrides, "--json"), evaluate(*overrides, "seed=3")

    assert results(again) == {**first, "time": {"num_samples": 0, "seconds": 5.0}}
    assert "kept the existing evaluation-1-of-2.json" in again.stderr
    assert other.returncode == 3
    assert "belongs to seed=0, not 3" in other.stderr


def test_json_is_the_only_output_on_stdout(evaluate: Run) -> None:
    found = results(evaluate("free", *FREE, "--json"))

    assert next(iter(found["bits_per_sample"])) == "model"
    assert found["resyntheses"] == []
    assert found["real_time_factor"] > 0
    assert Path("evaluation.html").exists()


@pytest.mark.parametrize("shard", ["all", "1/0", "0/2", "3/2", "every/2"])
def test_an_invalid_shard_is_an_error(evaluate: Run, shard: str) -> None:
    done = evaluate("free", f"shard={shard}")

    assert done.returncode == 2
    assert "shard must be i/n" in done.stderr


def test_evaluating_and_merging_shards_at_once_is_an_error(evaluate: Run) -> None:
    done = evaluate("free", "shard=1/2", "merge_shards=2")

    assert done.returncode == 2
    assert "set one of the two" in done.stderr
