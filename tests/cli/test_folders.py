"""A folder of inputs spoken: names, seeds, batches, shards, what is left and what fails."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.commands import Run
from wavenet.checkpoint import save
from wavenet.config import AudioConfig, FilterConfig, LocalConfig, ScoreConfig, WaveNetConfig
from wavenet.features.mel import LogMel
from wavenet.features.mel_file import write_mel
from wavenet.generation.inputs import Input
from wavenet.generation.wav_stream import side_by_side
from wavenet.mel_presets import MEL_PRESETS
from wavenet.model import WaveNet

RATE = 8000
SHAPE: dict[str, Any] = {
    "dilations": (1, 2, 4),
    "residual_channels": 8,
    "gate_channels": 16,
    "skip_channels": 8,
    "head_channels": 8,
}
MEL = MEL_PRESETS["8khz"]
LENGTHS = {"a.wav": 2500, "b/a.wav": 1600, "b/c d.flac": 3300, "b/e=f,g.wav": 400}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Recordings of unequal lengths, nested; one is hidden, and one file is none."""
    rng = np.random.default_rng(0)
    (tmp_path / "clips" / "b").mkdir(parents=True)
    for name, length in LENGTHS.items():
        soundfile.write(tmp_path / "clips" / name, 0.1 * rng.standard_normal(length), RATE)
    (tmp_path / "clips" / ".hidden.wav").write_bytes(b"nothing")
    (tmp_path / "clips" / "notes.txt").write_text("no input")
    return tmp_path / "clips"


@pytest.fixture
def vocoder(tmp_path: Path) -> Path:
    """A model that speaks from a mel, and undoes a filter after; nobody trained it."""
    torch.manual_seed(0)
    local = LocalConfig(in_channels=MEL.n_mels, channels=8, upsample_scales=(8, 10), lookahead=2)
    audio = AudioConfig(sample_rate=RATE, mel=MEL, filter=FilterConfig(pre_emphasis=0.85))
    save(WaveNet(WaveNetConfig(local=local, **SHAPE)), tmp_path / "model", audio)
    return tmp_path / "model"


@pytest.fixture
def free(tmp_path: Path) -> Path:
    """A model that speaks by itself."""
    torch.manual_seed(0)
    save(WaveNet(WaveNetConfig(**SHAPE)), tmp_path / "free", AudioConfig(sample_rate=RATE))
    return tmp_path / "free"


def written(folder: str) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_input_below_a_folder_is_spoken_to_its_name(
    run: Run, vocoder: Path, clips: Path
) -> None:
    done = run("generate", "checkpoint=model", "input=clips", "output=out")

    assert done.returncode == 0, done.stderr
    assert "4 made, 0 left as they were, 0 failed" in done.stdout
    assert "times real time" in done.stdout
    lengths = {name: len(soundfile.read(f"out/{name}")[0]) for name in written("out")}
    expected = {Path(name).with_suffix(".wav").as_posix(): n for name, n in LENGTHS.items()}
    assert lengths == expected


def test_batches_and_shards_and_neighbours_change_no_bit(
    run: Run, vocoder: Path, clips: Path
) -> None:
    said = ("generate", "checkpoint=model", "input=clips", "temperature=0.9", "seed=3")
    assert run(*said, "output=one").returncode == 0

    assert run(*said, "output=batch", "num_samples=3").returncode == 0
    for shard in ("2/2", "1/2"):
        assert run(*said, "output=shards", f"shard={shard}", "num_samples=2").returncode == 0
    (clips / "a.wav").unlink()
    assert run(*said, "output=fewer", "num_samples=4").returncode == 0

    whole = written("one")
    assert written("batch") == whole
    assert written("shards") == whole
    assert written("fewer") == {name: data for name, data in whole.items() if name != "a.wav"}


def test_a_shard_takes_every_nth_input(run: Run, vocoder: Path, clips: Path) -> None:
    done = run("generate", "checkpoint=model", "input=clips", "output=out", "shard=2/3")

    assert done.returncode == 0, done.stderr
    assert list(written("out")) == ["b/a.wav"]


def test_a_single_input_with_a_files_seed_is_the_file(run: Run, vocoder: Path, clips: Path) -> None:
    said = ("generate", "checkpoint=model", "num_threads=1")
    assert run(*said, "input=clips", "output=out", "seed=7", "num_samples=4").returncode == 0
    seed = Input("b/c d", Path(), Path(), 0).seed(7)

    single = run(*said, "input=clips/b/c d.flac", "output=single.wav", f"seed={seed}")

    assert single.returncode == 0, single.stderr
    assert Path("single.wav").read_bytes() == written("out")["b/c d.wav"]


def test_seeds_follow_from_the_seed_and_the_name() -> None:
    one, other = (Input(name, Path(), Path(), 0) for name in ("a", "b/a"))

    seeds = {one.seed(0), one.seed(1), other.seed(0), other.seed(1)}

    assert one.seed(0) == 11381658363930578919 >> 1
    assert len(seeds) == 4


def test_what_is_there_is_left_until_overwriting_is_asked_for(
    run: Run, vocoder: Path, clips: Path
) -> None:
    said = ("generate", "checkpoint=model", "input=clips", "output=out")
    assert run(*said).returncode == 0
    whole = written("out")
    Path("out/a.wav").write_bytes(b"mine")
    Path("out/b/a.wav").unlink()

    again = run(*said)

    assert "1 made, 3 left as they were, 0 failed" in again.stdout
    assert written("out") == {**whole, "a.wav": b"mine"}
    assert "4 made" in run(*said, "overwrite=true").stdout
    assert written("out") == whole


def test_bad_inputs_are_told_at_the_end_and_the_others_are_made(
    run: Run, vocoder: Path, clips: Path
) -> None:
    (clips / "aa.wav").write_bytes(b"no sound")
    soundfile.write(clips / "fast.wav", np.zeros(100), 16000)
    for number in range(15):
        (clips / f"z{number:02}.wav").write_bytes(b"")

    done = run("generate", "checkpoint=model", "input=clips", "output=out", "num_samples=2")

    assert done.returncode == 3
    assert "4 made, 0 left as they were, 17 failed" in done.stdout
    lines = done.stderr.splitlines()
    told = lines[next(i for i, line in enumerate(lines) if "DataError" in line) :]
    assert told[0] == "DataError: 17 inputs could not be spoken:"
    assert len(told) == 1 + 12
    assert "aa.wav: no audio" in told[1]
    assert "fast.wav is at 16000 Hz, the model at 8000 Hz" in told[2]
    assert told[-1] == "  and 6 more"
    assert list(written("out")) == ["a.wav", "b/a.wav", "b/c d.wav", "b/e=f,g.wav"]


def test_an_input_shorter_than_the_seconds_asked_for_is_told_by_name(
    run: Run, vocoder: Path, clips: Path
) -> None:
    done = run("generate", "checkpoint=model", "input=clips", "output=out", "seconds=0.1")

    assert done.returncode == 3
    assert "e=f,g.wav: the input" in done.stderr
    assert {len(soundfile.read(f"out/{name}")[0]) for name in written("out")} == {800}


def test_mels_are_spoken_beside_recordings(run: Run, vocoder: Path, clips: Path) -> None:
    samples, _ = soundfile.read(clips / "a.wav", dtype="float32")
    mel = LogMel(MEL)(torch.from_numpy(samples)[None])[0]
    write_mel(clips / "m.safetensors", mel, MEL)
    np.save(clips / "n.npy", mel.numpy())
    said = ("generate", "checkpoint=model", "input=clips", "output=out", "num_samples=8")

    refused = run(*said)
    done = run(*said, "mel_preset=model")

    assert refused.returncode == 2
    assert "n.npy does not say how it was made" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert {"m.wav", "n.wav"} < written("out").keys()


def test_a_score_beside_a_recording_is_no_input_of_its_own(run: Run, clips: Path) -> None:
    notes = ScoreConfig(sample_rate=RATE, hop_length=80, midi_min=60, midi_max=64)
    local = LocalConfig(in_channels=10, channels=8, upsample_scales=(80,))
    audio = AudioConfig(sample_rate=RATE, score=notes)
    save(WaveNet(WaveNetConfig(local=local, **SHAPE)), "model", audio)
    (clips / "a.csv").write_text("0,0.1,60\n")
    (clips / "b" / "x.csv").write_text("0,0.01,61\n")

    done = run("generate", "checkpoint=model", "input=clips", "output=out")

    assert done.returncode == 3  # three recordings have no score
    assert "2 made, 0 left as they were, 3 failed" in done.stdout
    assert len(soundfile.read("out/a.wav")[0]) == LENGTHS["a.wav"]
    assert "b/x.wav" in written("out")


def test_prompts_of_a_folder_are_gone_on_from(run: Run, free: Path, clips: Path) -> None:
    soundfile.write(clips / "twin.wav", 0.1 * np.ones(1600), RATE)
    said = ("generate", "checkpoint=free", "prompt=clips", "seconds=0.05")

    assert run(*said, "output=one").returncode == 0
    assert run(*said, "output=batch", "num_samples=4").returncode == 0

    given, _ = soundfile.read(clips / "b" / "c d.flac")
    made, _ = soundfile.read("one/b/c d.wav")
    assert len(made) == len(given) + 400
    assert abs(made[: len(given)] - given).max() <= 1 / 32768
    assert written("batch") == written("one")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("input=clips", "output=x.wav"), 2, "say output=FOLDER"),
        (("input=clips", "output=file"), 2, "output must be one too, got file"),
        (("input=clips",), 2, "say output=FOLDER"),
        (("input=clips/a.wav", "output=clips"), 2, "is a folder, and there is one input"),
        (("input=clips", "output=clips"), 2, "lies in input"),
        (("input=clips", "output=clips/new"), 2, "lies in input"),
        (("input=clips", "prompt=clips", "output=out"), 2, "say one"),
        (("input=clips/a.wav", "prompt=clips", "output=out"), 2, "say one"),
        (("input=clips/a.wav", "shard=1/2"), 2, "shard shares out a folder"),
        (("input=clips", "output=out", "shard=3/2"), 2, "shard must be i/n"),
        (("input=empty", "output=out"), 3, "empty holds no input"),
        (("prompt=clips", "output=out"), 2, "say input=FILE"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(
    run: Run, vocoder: Path, clips: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    Path("file").write_text("mine")
    Path("empty").mkdir()
    before = written(".")

    done = run("generate", "checkpoint=model", *arguments)

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert written(".") == before


def test_two_inputs_with_one_output_are_refused_before_any_work(
    run: Run, vocoder: Path, clips: Path
) -> None:
    soundfile.write(clips / "b" / "a.flac", np.zeros(100), RATE)

    done = run("generate", "checkpoint=model", "input=clips", "output=out")

    assert done.returncode == 2
    assert "b/a.flac and b/a.wav would both be spoken to b/a.wav" in done.stderr
    assert not Path("out").exists()


def test_shorter_frames_go_on_with_their_last() -> None:
    short, long = torch.randn(1, 2, 1), torch.randn(1, 2, 3)

    both = side_by_side([short, long])

    assert both is not None
    torch.testing.assert_close(both[0], short[0].expand(2, 3))
    torch.testing.assert_close(both[1], long[0])
    assert side_by_side([]) is None
