"""A folder of inputs: names, seeds, batches, shards, skipped outputs and failures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.commands import Run
from wavenet.checkpoint import save
from wavenet.config import AudioConfig, FilterConfig, LocalConfig, ScoreConfig, WaveNetConfig
from wavenet.distributions import SamplingConfig
from wavenet.features.mel import LogMel, write_mel
from wavenet.features.mel_consistency import MelConsistency
from wavenet.generation.generate import CHUNK_SECONDS, WavJob, generate_wavs, pad_frames
from wavenet.generation.inputs import InputFile, read_recording
from wavenet.model import WaveNet
from wavenet.presets import MEL_PRESETS
from wavenet.sampling import make_sampler
from wavenet.sampling.cpu.cpu_sampler import CpuSampler

INCLUDE = "include_prompt=true"
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
    """Recordings of different lengths in nested folders, a hidden file and a text file."""
    rng = np.random.default_rng(0)
    (tmp_path / "clips" / "b").mkdir(parents=True)
    for name, length in LENGTHS.items():
        soundfile.write(tmp_path / "clips" / name, 0.1 * rng.standard_normal(length), RATE)
    (tmp_path / "clips" / ".hidden.wav").write_bytes(b"nothing")
    (tmp_path / "clips" / "notes.txt").write_text("no input")
    return tmp_path / "clips"


@pytest.fixture
def vocoder(tmp_path: Path) -> Path:
    """An untrained model, conditioned on a mel, whose audio has a filter."""
    torch.manual_seed(0)
    local = LocalConfig(in_channels=MEL.n_mels, channels=8, upsample_scales=(8, 10), lookahead=2)
    audio = AudioConfig(sample_rate=RATE, mel=MEL, filter=FilterConfig(pre_emphasis=0.85))
    save(WaveNet(WaveNetConfig(local=local, **SHAPE)), tmp_path / "model", audio)
    return tmp_path / "model"


@pytest.fixture
def free(tmp_path: Path) -> Path:
    """An untrained unconditional model."""
    torch.manual_seed(0)
    save(WaveNet(WaveNetConfig(**SHAPE)), tmp_path / "free", AudioConfig(sample_rate=RATE))
    return tmp_path / "free"


def written(folder: str) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def samples_of(path: Path | str) -> torch.Tensor:
    """The samples of a file, `(1, T)`."""
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
@pytest.mark.parametrize("key", ["input", "prompt"])
def test_an_output_never_replaces_what_it_is_generated_from(
    key: str, link: str | None, run: Run, clips: Path, vocoder: Path, free: Path
) -> None:
    source, output = Path("clips/a.wav"), Path("clips/a.wav")
    if link is not None:
        output = Path("out.wav")
        getattr(output, link)(source.absolute())
    before = source.read_bytes()
    model = {"input": vocoder, "prompt": free}[key].name

    done = run("generate", model, f"{key}={source}", f"output={output}", "overwrite=true")

    assert done.returncode == 2
    assert f"output {output} is the same file as {key} clips/a.wav, which is never" in done.stderr
    assert source.read_bytes() == before
    assert run("generate", model, f"{key}={source}", "output=new.wav").returncode == 0


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_outputs_of_a_folder_never_replace_its_inputs(
    link: str, run: Run, clips: Path, vocoder: Path
) -> None:
    before = written("clips")
    Path("out/b").mkdir(parents=True)
    getattr(Path("out/b/a.wav"), link)((clips / "a.wav").absolute())

    done = run("generate", "model", "input=clips", "output=out", "overwrite=true")

    assert done.returncode == 2
    assert "output out/b/a.wav is the same file as input clips/a.wav" in done.stderr
    assert written("clips") == before
    assert written("out") == {"b/a.wav": before["a.wav"]}


def test_many_recordings_at_once_advance_within_a_chunk_with_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    audio = AudioConfig(sample_rate=RATE, filter=FilterConfig(pre_emphasis=0.85))
    sampler, sampling = make_sampler(WaveNet(WaveNetConfig(**SHAPE))), SamplingConfig()
    jobs = [WavJob(tmp_path / f"{seed}.wav", seed, 2500 - seed) for seed in range(40)]
    alone = dataclasses.replace(jobs[7], output=tmp_path / "alone.wav")
    steps: list[int] = []

    generate_wavs(jobs, sampler, audio, sampling, steps.append)
    generate_wavs([alone], sampler, audio, sampling, lambda _: None)

    chunk = len(jobs) * round(CHUNK_SECONDS * RATE)
    assert sum(steps) == sum(job.length for job in jobs)
    assert max(steps) <= CpuSampler.progress_interval < chunk
    assert jobs[7].output.read_bytes() == alone.output.read_bytes()


def test_more_recordings_than_memory_can_name_are_refused_at_once(run: Run, free: Path) -> None:
    done = run("generate", "checkpoint=free", "num_samples=10000000000000")

    assert done.returncode == 5
    assert "num_samples=10000000000000: the list of files needs 5,000 TB of memory" in done.stderr


def test_every_input_of_a_folder_gets_an_output_of_its_name(
    run: Run, vocoder: Path, clips: Path
) -> None:
    done = run("generate", "checkpoint=model", "input=clips", "output=out")

    assert done.returncode == 0, done.stderr
    assert "4 written, 0 skipped, 0 failed" in done.stdout
    assert "real-time factor" in done.stdout
    lengths = {name: len(soundfile.read(f"out/{name}")[0]) for name in written("out")}
    expected = {Path(name).with_suffix(".wav").as_posix(): n for name, n in LENGTHS.items()}
    assert lengths == expected


def test_batches_shards_and_other_inputs_do_not_change_the_result(
    run: Run, vocoder: Path, clips: Path
) -> None:
    command = ("generate", "checkpoint=model", "input=clips", "temperature=0.9", "seed=3")
    assert run(*command, "output=one").returncode == 0

    assert run(*command, "output=batch", "batch_size=3").returncode == 0
    for shard in ("2/2", "1/2"):
        assert run(*command, "output=shards", f"shard={shard}", "batch_size=2").returncode == 0
    (clips / "a.wav").unlink()
    assert run(*command, "output=fewer", "batch_size=4").returncode == 0

    expected = written("one")
    assert written("batch") == expected
    assert written("shards") == expected
    assert written("fewer") == {name: data for name, data in expected.items() if name != "a.wav"}


def test_a_shard_takes_every_nth_input(run: Run, vocoder: Path, clips: Path) -> None:
    done = run("generate", "checkpoint=model", "input=clips", "output=out", "shard=2/3")

    assert done.returncode == 0, done.stderr
    assert list(written("out")) == ["b/a.wav"]


def test_a_single_input_with_a_files_seed_is_the_file(run: Run, vocoder: Path, clips: Path) -> None:
    command = ("generate", "checkpoint=model", "num_threads=1")
    assert run(*command, "input=clips", "output=out", "seed=7", "batch_size=4").returncode == 0
    seed = InputFile("b/c d", Path(), Path(), 0).seed(7)

    single = run(*command, "input=clips/b/c d.flac", "output=single.wav", f"seed={seed}")

    assert single.returncode == 0, single.stderr
    assert Path("single.wav").read_bytes() == written("out")["b/c d.wav"]


def test_seeds_follow_from_the_seed_and_the_name() -> None:
    one, other = (InputFile(name, Path(), Path(), 0) for name in ("a", "b/a"))

    seeds = {one.seed(0), one.seed(1), other.seed(0), other.seed(1)}

    assert one.seed(0) == 11381658363930578919 >> 1
    assert len(seeds) == 4


def test_existing_outputs_are_skipped_unless_overwritten(
    run: Run, vocoder: Path, clips: Path
) -> None:
    command = ("generate", "checkpoint=model", "input=clips", "output=out")
    assert run(*command).returncode == 0
    expected = written("out")
    Path("out/a.wav").write_bytes(b"mine")
    Path("out/b/a.wav").unlink()

    again = run(*command)

    assert "1 written, 3 skipped, 0 failed" in again.stdout
    assert written("out") == {**expected, "a.wav": b"mine"}
    assert "4 written" in run(*command, "overwrite=true").stdout
    assert written("out") == expected


def test_failed_inputs_are_reported_and_the_others_are_generated(
    run: Run, vocoder: Path, clips: Path
) -> None:
    (clips / "aa.wav").write_bytes(b"no sound")
    for number in range(16):
        (clips / f"z{number:02}.wav").write_bytes(b"")

    done = run("generate", "checkpoint=model", "input=clips", "output=out", "batch_size=2")

    assert done.returncode == 3
    assert "4 written, 0 skipped, 17 failed" in done.stdout
    lines = done.stderr.splitlines()
    message = lines[next(i for i, line in enumerate(lines) if "DataError" in line) :]
    assert message[0] == "DataError: 17 inputs failed:"
    assert len(message) == 1 + 12 + 1
    assert "aa.wav: no audio" in message[1]
    assert "z00.wav: is empty" in message[2]
    assert message[-1] == "  and 5 more"
    assert list(written("out")) == ["a.wav", "b/a.wav", "b/c d.wav", "b/e=f,g.wav"]


def test_a_recording_of_two_channels_is_mixed_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "wavenet")
    soundfile.write(tmp_path / "two.wav", [[0.5, 0.0], [0.25, -0.25]], RATE)

    recording = read_recording(tmp_path / "two.wav", RATE)

    assert recording.tolist() == [0.25, 0.0]
    assert "two.wav: 2 channels mixed down to one" in caplog.text


def test_an_input_shorter_than_seconds_is_reported_by_name(
    run: Run, vocoder: Path, clips: Path
) -> None:
    done = run("generate", "checkpoint=model", "input=clips", "output=out", "seconds=0.1")

    assert done.returncode == 3
    assert "e=f,g.wav: the input covers 0.05 s" in done.stderr
    assert {len(soundfile.read(f"out/{name}")[0]) for name in written("out")} == {800}


def test_mels_and_recordings_can_be_in_one_folder(run: Run, vocoder: Path, clips: Path) -> None:
    samples, _ = soundfile.read(clips / "a.wav", dtype="float32")
    mel = LogMel(MEL)(torch.from_numpy(samples)[None])[0]
    write_mel(clips / "m.safetensors", mel, MEL)
    np.save(clips / "n.npy", mel.numpy())
    command = ("generate", "checkpoint=model", "input=clips", "output=out", "batch_size=8")

    refused = run(*command)
    done = run(*command, "mel_preset=model")

    assert refused.returncode == 2
    assert "n.npy has no mel settings" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert {"m.wav", "n.wav"} < written("out").keys()


def test_a_score_next_to_a_recording_is_not_a_separate_input(run: Run, clips: Path) -> None:
    notes = ScoreConfig(sample_rate=RATE, hop_length=80, midi_min=60, midi_max=64)
    local = LocalConfig(in_channels=10, channels=8, upsample_scales=(80,))
    audio = AudioConfig(sample_rate=RATE, score=notes)
    save(WaveNet(WaveNetConfig(local=local, **SHAPE)), "model", audio)
    (clips / "a.csv").write_text("0,0.1,60\n")
    (clips / "b" / "x.csv").write_text("0,0.01,61\n")

    done = run("generate", "checkpoint=model", "input=clips", "output=out")

    assert done.returncode == 3  # three recordings have no score
    assert "2 written, 0 skipped, 3 failed" in done.stdout
    assert len(soundfile.read("out/a.wav")[0]) == LENGTHS["a.wav"]
    assert "b/x.wav" in written("out")


def test_prompts_of_a_folder_are_continued(run: Run, free: Path, clips: Path) -> None:
    soundfile.write(clips / "twin.wav", 0.1 * np.ones(1600), RATE)
    command = ("generate", "checkpoint=free", "prompt=clips", "seconds=0.05", INCLUDE)

    assert run(*command, "output=one").returncode == 0
    assert run(*command, "output=batch", "batch_size=4").returncode == 0

    given, _ = soundfile.read(clips / "b" / "c d.flac")
    continued, _ = soundfile.read("one/b/c d.wav")
    assert len(continued) == len(given) + 400
    assert abs(continued[: len(given)] - given).max() <= 1 / 32768
    assert written("batch") == written("one")


def test_the_mel_of_the_input_is_brought_back_after_the_filter(
    run: Run, vocoder: Path, clips: Path
) -> None:
    command = ("generate", "checkpoint=model", "input=clips")
    assert run(*command, "output=raw", "mel_consistency=0").returncode == 0

    done = run(*command, "output=three", "batch_size=4")

    assert done.stderr.count("mel consistency after sampling: 3 passes") == 1
    for name in LENGTHS:
        output = Path(name).with_suffix(".wav")
        given, raw, three = map(samples_of, (clips / name, "raw" / output, "three" / output))
        expected = MelConsistency(MEL)(raw, LogMel(MEL)(given)[0])
        assert (three - expected).abs().max() < 1e-3  # raw is rounded to 16 bits


def test_mel_consistency_hears_the_prompt_and_leaves_it(
    run: Run, vocoder: Path, clips: Path
) -> None:
    given = samples_of(clips / "a.wav")
    soundfile.write("prompt.wav", given[0, :800].numpy(), RATE)
    command = ("generate", "checkpoint=model", "input=clips/a.wav", "prompt=prompt.wav", INCLUDE)
    assert run(*command, "output=raw.wav", "mel_consistency=0").returncode == 0

    done = run(*command, "output=ten.wav", "mel_consistency=10")

    assert "mel consistency after sampling: 10 passes" in done.stderr
    raw, ten = map(samples_of, ("raw.wav", "ten.wav"))
    assert ten.shape == raw.shape == given.shape
    assert torch.equal(ten[:, :800], raw[:, :800])
    expected = MelConsistency(MEL, 10)(raw, LogMel(MEL)(given))
    assert (ten - expected)[:, 800:].abs().max() < 1e-3


def test_mel_consistency_of_a_model_without_a_mel_is_an_error(run: Run, free: Path) -> None:
    refused = run("generate", "checkpoint=free", "mel_consistency=3", "seconds=0.01")

    assert refused.returncode == 2
    assert "mel_consistency=3, but the model is conditioned on nothing" in refused.stderr
    assert not Path("generated.wav").exists()
    done = run("generate", "checkpoint=free", "mel_consistency=0", "seconds=0.01")
    assert done.returncode == 0
    assert "mel consistency" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("input=clips", "output=x.wav"), 2, "use output=FOLDER"),
        (("input=clips", "output=file"), 2, "output must be a folder too, got file"),
        (("input=clips", "output=-"), 2, "output must be a folder too, got -"),
        (("input=clips",), 2, "use output=FOLDER"),
        (("input=clips/a.wav", "output=clips"), 2, "is a folder, but there is a single input"),
        (("input=clips", "output=clips"), 2, "is inside input"),
        (("input=clips", "output=clips/new"), 2, "is inside input"),
        (("input=clips", "prompt=clips", "output=out"), 2, "not both"),
        (("input=clips/a.wav", "prompt=clips", "output=out"), 2, "not both"),
        (("input=clips/a.wav", "shard=1/2"), 2, "shard needs a folder of inputs"),
        (("input=clips", "output=out", "shard=3/2"), 2, "shard must be i/n"),
        (("input=empty", "output=out"), 3, "empty has no input files"),
        (("prompt=clips", "output=out"), 2, "add input=FILE"),
        (("input=clips", "output=out", "num_samples=2"), 2, "use batch_size"),
    ],
)
def test_options_that_do_not_fit_together_fail_before_any_work(
    run: Run, vocoder: Path, clips: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    Path("file").write_text("mine")
    Path("empty").mkdir()
    before = written(".")

    done = run("generate", "checkpoint=model", *arguments)

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert written(".") == before


def test_two_inputs_with_the_same_output_fail_before_any_work(
    run: Run, vocoder: Path, clips: Path
) -> None:
    soundfile.write(clips / "b" / "a.flac", np.zeros(100), RATE)

    done = run("generate", "checkpoint=model", "input=clips", "output=out")

    assert done.returncode == 2
    assert "the output of b/a.flac and b/a.wav would be b/a.wav" in done.stderr
    assert not Path("out").exists()


def test_shorter_frames_repeat_their_last_one() -> None:
    short, long = torch.randn(1, 2, 1), torch.randn(1, 2, 3)

    both = pad_frames([short, long])

    assert both is not None
    torch.testing.assert_close(both[0], short[0].expand(2, 3))
    torch.testing.assert_close(both[1], long[0])
    assert pad_frames([]) is None
