"""An evaluation in shards: what jobs measure side by side adds up to what one would have found."""

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
from wavenet.mel_presets import MEL_PRESETS
from wavenet.model import WaveNet

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
COPIES = (
    "evaluation.num_resynthesis=3",
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
    """A model of two speakers that speaks from a mel, and one that speaks by itself; untrained."""
    torch.manual_seed(0)
    local = LocalConfig(in_channels=MEL.n_mels, channels=8, upsample_scales=(8, 10), lookahead=1)
    told = WaveNet(WaveNetConfig(local=local, num_speakers=2, **SHAPE))
    save(
        folder / "told", told, AudioConfig(sample_rate=RATE, mel=MEL, speaker_names=("ann", "bob"))
    )
    save(folder / "free", WaveNet(WaveNetConfig(**SHAPE)), AudioConfig(sample_rate=RATE))


@pytest.fixture
def evaluate(run: Run, voices: Path, tmp_path: Path) -> Run:
    """Evaluate on the voices."""
    models(tmp_path)

    def evaluated(model: str, *said: str) -> Done:
        return run("evaluate", f"checkpoint={model}", *DATA, *said)

    return evaluated


def measures(done: Done) -> dict[str, Any]:
    """What a command printed as JSON, and nothing else."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_shards_add_up_to_the_whole_evaluation(evaluate: Run) -> None:
    whole = measures(evaluate("told", *COPIES, "output=whole.html", "--json"))

    for number in (3, 1, 2):
        part = evaluate("told", *COPIES, "output=page.html", f"shard={number}/3")
        assert part.returncode == 0, part.stderr
        assert not Path("page.html").exists()
    added = evaluate("told", *COPIES, "output=page.html", "shard=all/3", "--json")

    found = measures(added)
    assert list(found["bits_per_sample"]) == list(whole["bits_per_sample"])
    assert {"told another speaker", "told no speaker"} < whole["bits_per_sample"].keys()
    assert found["bits_per_sample"] == pytest.approx(whole["bits_per_sample"], rel=1e-12)
    assert found["copies"] == whole["copies"]
    assert [copy["number"] for copy in found["copies"]] == [1, 2, 3]
    assert found["mean_distances"] == whole["mean_distances"]
    assert found["clips"] == whole["clips"] > 3
    one, other = (Path(name).read_text(encoding="utf-8") for name in ("whole.html", "page.html"))
    assert other.count("<audio") == one.count("<audio") == 3 * 4
    sounds = [
        [part.split('"')[0] for part in page.split("audio/wav;base64,")[1:]]
        for page in (one, other)
    ]
    assert sounds[0] == sounds[1]


def test_the_table_of_shards_is_the_table_of_the_whole(evaluate: Run) -> None:
    whole = evaluate("free", *FREE, "output=whole.html")
    for number in (1, 2):
        assert evaluate("free", *FREE, f"shard={number}/2").returncode == 0

    added = evaluate("free", *FREE, "shard=all/2")

    assert added.returncode == 0, added.stderr
    tables = [done.stdout.partition("real-time")[0] for done in (whole, added)]
    assert tables[0] == tables[1]
    assert "adapted linear prediction" in tables[0]
    assert Path("evaluation.html").read_text(encoding="utf-8").count("<audio") == 3


def test_more_shards_than_clips_add_up_too(evaluate: Run) -> None:
    said = ("evaluation.sample_seconds=0", "evaluation.eval_seconds=0.1", "--json")
    whole = measures(evaluate("free", *said))
    for number in (1, 2):
        assert evaluate("free", *said, f"shard={number}/2").returncode == 0

    found = measures(evaluate("free", *said, "shard=all/2"))

    assert whole["clips"] == 1
    assert found["bits_per_sample"] == pytest.approx(whole["bits_per_sample"], rel=1e-12)


def test_shards_that_are_missing_or_of_something_else_are_named(
    evaluate: Run, tmp_path: Path
) -> None:
    said = ("free", "evaluation.sample_seconds=0")
    for number in (1, 2, 4, 5, 6):
        assert evaluate(*said, f"shard={number}/6").returncode == 0
    assert evaluate(*said, "shard=2/6", "seed=7", "overwrite=true").returncode == 0
    said_else = ("evaluation.eval_seconds=1", "overwrite=true")
    assert evaluate(*said, "shard=4/6", *said_else).returncode == 0
    shutil.move("free", "kept")
    save(tmp_path / "free", WaveNet(WaveNetConfig(**SHAPE)), AudioConfig(sample_rate=RATE))
    assert evaluate(*said, "shard=5/6", "overwrite=true").returncode == 0
    shutil.rmtree("free")
    shutil.move("kept", "free")
    Path("evaluation-6-of-6.json").write_text("{}")

    done = evaluate(*said, "shard=all/6")

    assert done.returncode == 3
    told = [line.strip() for line in done.stderr.splitlines() if "of-6.json" in line]
    assert [line.split(".json ")[0] for line in told] == [
        f"evaluation-{n}-of-6" for n in (2, 3, 4, 5, 6)
    ]
    assert "is of seed=7, not 0: run the same with shard=2/6 overwrite=true" in told[0]
    assert "is missing: run the same with shard=3/6" in told[1]
    assert "is of evaluation.eval_seconds=1.0, not None" in told[2]
    assert "is of another checkpoint" in told[3]
    assert "is no share of ours" in told[4]


def test_a_shard_that_is_there_is_left(evaluate: Run) -> None:
    said = ("free", "evaluation.sample_seconds=0", "shard=1/2")
    first = measures(evaluate(*said, "--json"))
    path = Path("evaluation-1-of-2.json")
    path.write_text(path.read_text().replace('"took": 0.0', '"took": 5.0'))

    again, other = evaluate(*said, "--json"), evaluate(*said, "seed=3")

    assert measures(again) == {**first, "took": 5.0}
    assert "is there already, and left" in again.stderr
    assert other.returncode == 3
    assert "is of seed=0, not 3" in other.stderr


def test_json_goes_alone_to_stdout(evaluate: Run) -> None:
    found = measures(evaluate("free", *FREE, "--json"))

    assert next(iter(found["bits_per_sample"])) == "model"
    assert found["copies"] == []
    assert found["real_time_factor"] > 0
    assert Path("evaluation.html").exists()


@pytest.mark.parametrize("shard", ["all", "all/0", "0/2", "3/2", "every/2"])
def test_what_is_no_shard_is_refused(evaluate: Run, shard: str) -> None:
    done = evaluate("free", f"shard={shard}")

    assert done.returncode == 2
    assert "shard must be i/n" in done.stderr
