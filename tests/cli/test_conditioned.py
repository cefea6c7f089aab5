"""From recordings to generated audio with conditioning: mel and speaker, and a score."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.commands import Run
from wavenet.checkpoint import load, save
from wavenet.config import AudioConfig, FilterConfig, WaveNetConfig
from wavenet.features.mel import LogMel, write_mel
from wavenet.model import WaveNet

pytestmark = pytest.mark.slow

RATE = 8000
TRAIN = (
    "recipe=folder",
    "model=tiny",
    "audio.sample_rate=8000",
    "data.test_fraction=0.2",
    "data.valid_fraction=0.2",
    "trainer.max_steps=6",
    "trainer.global_batch_size=2",
    "trainer.segment_length=200",
    "trainer.val_every_n_steps=3",
    "trainer.save_every_n_steps=3",
    "trainer.preview_seconds=0.05",
    "evaluation.sample_seconds=0.1",
    "evaluation.num_resynthesis=1",
    "audio.filter.pre_emphasis=0.85",
    "audio.filter.noise_shaping=0.5",
    "audio.filter.gain=0.5",
)
MEL = (
    "audio.mel=8khz",
    "model.local={in_channels:64,channels:8,upsample_scales:[8,10],lookahead:1}",
    "data.speaker_from_folder=true",
    "data.use_speakers=true",
)
NOTES = (
    "data.corpus=chorales",
    "audio.score={sample_rate:8000,hop_length:80,midi_min:60,midi_max:64}",
    "model.local={in_channels:10,channels:8,upsample_scales:[80]}",
)


def tone(seed: int, seconds: float = 0.6) -> np.ndarray:
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    return 0.3 * np.sin(2 * np.pi * (150 + 20 * seed) * t) + 0.01 * rng.standard_normal(len(t))


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Two speakers, five recordings each, each with a score."""
    folder = tmp_path / "recordings"
    for speaker in ("ann", "bob"):
        (folder / speaker).mkdir(parents=True)
        for number in range(5):
            path = folder / speaker / f"{number}.wav"
            soundfile.write(path, tone(number), RATE, subtype="PCM_16")
            path.with_suffix(".csv").write_text("0,0.25,60\n0.25,0.5,64\n")
    return folder


def test_training_and_evaluation_with_mel_and_speakers(
    run: Run, voices: Path, tmp_path: Path
) -> None:
    done = run("train", *TRAIN, *MEL, f"data.root={voices}", "run_dir=run")
    assert done.returncode == 0, done.stderr
    for text in ("wrong speaker", "Griffin-Lim", "real-time factor"):
        assert text in done.stderr
    for name in ("original-1", "resynthesis-1", "resynthesis-3-passes-1", "griffin-lim-1"):
        assert (tmp_path / "run" / "samples" / f"{name}.wav").is_file(), name

    loaded = load(tmp_path / "run" / "model")
    assert loaded.audio.speaker_names == ("ann", "bob")
    assert loaded.audio.mel is not None
    assert len(loaded.audio.mel.mean) == 64
    assert loaded.audio.filter.predictor
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "ann, bob" in card
    assert "64 bands" in card

    evaluated = run("evaluate", "checkpoint=run/model", "evaluation.num_resynthesis=1")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "mel dB" in evaluated.stdout
    page = (tmp_path / "run" / "evaluation.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 6
    again = run("evaluate", "checkpoint=run/model", "evaluation.num_resynthesis=1")
    assert again.returncode == 2
    assert "overwrite=true" in again.stderr
    raw = run(
        *("evaluate", "checkpoint=run/model", "evaluation.num_resynthesis=1", "output=null"),
        "evaluation.mel_consistency=0",
    )
    assert raw.returncode == 0, raw.stderr
    assert "passes" not in raw.stdout


def test_a_recording_and_its_mel_generate_the_same_audio(
    run: Run, voices: Path, tmp_path: Path
) -> None:
    done = run(
        "train", *TRAIN, *MEL, f"data.root={voices}", "run_dir=run", "evaluation.sample_seconds=0"
    )
    assert done.returncode == 0, done.stderr
    clip = voices / "ann" / "0.wav"
    mel = load(tmp_path / "run" / "model").audio.mel
    assert mel is not None
    samples, _ = soundfile.read(clip, dtype="float32")
    write_mel(tmp_path / "mel.safetensors", LogMel(mel)(torch.from_numpy(samples)[None])[0], mel)

    for source, output in ((clip, "a.wav"), ("mel.safetensors", "b.wav")):
        options = (f"input={source}", f"output={output}", "speaker=bob", "guidance_scale=1.5")
        generated = run("generate", "checkpoint=run/model", *options)
        assert generated.returncode == 0, generated.stderr

    first, rate = soundfile.read("a.wav")
    second, _ = soundfile.read("b.wav")
    assert rate == RATE
    assert len(first) == len(samples)
    np.testing.assert_array_equal(first, second[: len(first)])
    assert np.isfinite(first).all()
    refused = run("generate", "checkpoint=run/model", f"input={clip}", "speaker=bop")
    assert refused.returncode == 2
    assert "did you mean 'bob'" in refused.stderr
    without = run("generate", "checkpoint=run/model", "output=c.wav")
    assert without.returncode == 2
    assert "input=FILE" in without.stderr


def test_a_model_is_conditioned_on_a_score_file(run: Run, voices: Path, tmp_path: Path) -> None:
    done = run("train", *TRAIN, *NOTES, f"data.root={voices}", "run_dir=run")
    assert done.returncode == 0, done.stderr
    assert "onsets" in done.stderr
    (tmp_path / "score.csv").write_text("0,0.1,62\n")

    generated = run("generate", "checkpoint=run/model", "input=score.csv", "output=a.wav")

    assert generated.returncode == 0, generated.stderr
    samples, _ = soundfile.read("a.wav")
    assert len(samples) == pytest.approx(1.1 * RATE, abs=80)


def test_a_resumed_conditioned_run_ends_with_the_same_weights(
    run: Run, voices: Path, tmp_path: Path
) -> None:
    options = (
        *TRAIN,
        *MEL,
        f"data.root={voices}",
        "evaluation.sample_seconds=0",
        "trainer.balance_speakers=true",
    )
    assert run("train", *options, "run_dir=complete").returncode == 0

    # as if the run had been killed after its first checkpoint
    checkpoints = sorted((tmp_path / "complete" / "checkpoints").glob("*.ckpt"))
    resumed = tmp_path / "resumed"
    (resumed / "checkpoints").mkdir(parents=True)
    (resumed / "run.json").write_bytes((tmp_path / "complete" / "run.json").read_bytes())
    (resumed / "checkpoints" / checkpoints[0].name).write_bytes(checkpoints[0].read_bytes())
    done = run("train", "resume=resumed")

    assert done.returncode == 0, done.stderr
    weights = [
        hashlib.sha256((tmp_path / name / "model" / "model.safetensors").read_bytes()).digest()
        for name in ("complete", "resumed")
    ]
    assert weights[0] == weights[1]


def test_training_uses_the_mel_statistics_of_prepare(
    run: Run, voices: Path, tmp_path: Path
) -> None:
    options = (
        "audio.sample_rate=8000",
        MEL[0],
        "data.test_fraction=0.2",
        "data.valid_fraction=0.2",
    )
    prepared = ("data.processed_dir=clips", f"data.root={voices}", "data.speaker_from_folder=true")
    as_folder = ("data.resample=true", "data.mono=true")  # as the recipe does
    assert run("prepare", *options, *prepared, *as_folder).returncode == 0
    (found,) = (tmp_path / "clips").glob("mel-*.json")
    numbers = json.loads(found.read_text())
    numbers["mean"][0] = 1.5  # to be known again
    found.write_text(json.dumps(numbers))

    done = run("train", *TRAIN, *MEL, *prepared, "run_dir=run", "evaluation.sample_seconds=0")

    assert done.returncode == 0, done.stderr
    mel = load(tmp_path / "run" / "model").audio.mel
    assert mel is not None
    assert mel.mean[0] == 1.5


def test_a_prompt_that_the_filter_brings_past_one_is_limited(run: Run, tmp_path: Path) -> None:
    audio = AudioConfig(sample_rate=RATE, filter=FilterConfig(gain=2.0))
    save(WaveNet(WaveNetConfig(dilations=(1, 2))), tmp_path / "model", audio)
    soundfile.write(tmp_path / "loud.wav", np.full(400, 0.75), RATE, subtype="PCM_16")

    done = run("generate", "checkpoint=model", "prompt=loud.wav", "seconds=0.1")

    assert done.returncode == 0
    line = "loud.wav: the model's filter (audio.filter) brings 400 samples past 1.0: limited"
    assert line in done.stderr
    assert (tmp_path / "generated.wav").exists()
