"""What `wavenet-generate` takes and writes: converted recordings, prompts, formats by suffix."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.commands import Done, Run, run_here, run_in_one_process
from wavenet.checkpoint import save
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.audio_output import open_audio
from wavenet.data.container_headers import OPEN_END
from wavenet.generation.inputs import read_recording
from wavenet.model import WaveNet
from wavenet.utils.errors import ConfigError, DataError

RATE = 8000
GENERATE = ("generate", "checkpoint=model", "seconds=0.01", "backend=reference")


@pytest.fixture
def model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = WaveNetConfig(dilations=(1, 2), residual_channels=4, skip_channels=4)
    save(WaveNet(config), tmp_path / "model", AudioConfig(sample_rate=RATE))


def tone(rate: int, seconds: float, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 200 * np.arange(round(rate * seconds)) / rate)).astype("f4")


@pytest.mark.parametrize("rate", [4000, 44100])
def test_a_recording_of_another_rate_is_resampled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rate: int
) -> None:
    caplog.set_level("INFO", "wavenet")
    soundfile.write(tmp_path / "a.wav", tone(rate, 0.5), rate, subtype="FLOAT")

    recording = read_recording(tmp_path / "a.wav", RATE).numpy()

    expected = tone(RATE, 0.5)
    assert len(recording) == len(expected)
    assert abs(recording - expected)[200:-200].max() < 1e-3
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'a.wav'}: resampled from {rate} to {RATE} Hz"
    ]


def test_one_line_says_everything_that_was_converted(run: Run, model: None, tmp_path: Path) -> None:
    loud = tone(16000, 0.1, level=1.5)
    soundfile.write("loud.wav", np.stack([loud, loud], axis=1), 16000, subtype="FLOAT")

    done = run(*GENERATE, "prompt=loud.wav", "include_prompt=true")

    assert done.returncode == 0, done.stderr
    count = int((abs(np.stack([loud, loud])) > 1).sum())
    line = (
        "loud.wav: resampled from 16000 to 8000 Hz, 2 channels mixed down to one, "
        f"{count} samples past 1.0 limited"
    )
    assert line in done.stderr
    assert soundfile.info("generated.wav").frames == 800 + 80


def test_samples_far_past_one_are_refused(run: Run, model: None) -> None:
    soundfile.write("huge.wav", tone(RATE, 0.1, level=1e30), RATE, subtype="FLOAT")

    done = run(*GENERATE, "prompt=huge.wav")

    assert done.returncode == 3
    assert re.search(r"huge.wav: \d+ samples past 1.0, peak 1e\+30, perhaps damaged", done.stderr)
    assert not Path("generated.wav").exists()


def test_an_ogg_recording_whose_end_is_not_marked_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "wavenet")
    path = tmp_path / "a.ogg"
    soundfile.write(path, tone(RATE, 20), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])

    read_recording(path, RATE)

    assert [record.getMessage() for record in caplog.records] == [f"{path}: {OPEN_END}"]


def test_a_recording_of_less_than_a_sample_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", [0.5], 44100)

    with pytest.raises(DataError, match="use a longer recording"):
        read_recording(tmp_path / "a.wav", 1)


def test_the_prompt_is_in_the_file_only_where_it_is_asked_for(run: Run, model: None) -> None:
    soundfile.write("prompt.wav", tone(RATE, 0.1), RATE)
    command = (*GENERATE, "prompt=prompt.wav")
    assert run(*command).returncode == 0
    assert run(*command, "include_prompt=true", "output=both.wav").returncode == 0

    (alone, _), (both, _) = soundfile.read("generated.wav"), soundfile.read("both.wav")

    assert len(alone) == 80
    np.testing.assert_array_equal(both, np.append(soundfile.read("prompt.wav")[0], alone))


@pytest.mark.parametrize(
    ("suffix", "container", "tolerance"),
    [(".flac", "FLAC", 0), (".ogg", "OGG", None), (".MP3", "MP3", None)],
)
def test_the_suffix_of_the_output_is_its_format(
    run: Run, model: None, suffix: str, container: str, tolerance: float | None
) -> None:
    assert run(*GENERATE).returncode == 0

    done = run(*GENERATE, f"output=speech{suffix}")

    assert done.returncode == 0, done.stderr
    info = soundfile.info(f"speech{suffix}")
    assert (info.format, info.samplerate, info.channels) == (container, RATE, 1)
    if tolerance is not None:
        wav, _ = soundfile.read("generated.wav")
        np.testing.assert_array_equal(soundfile.read(f"speech{suffix}")[0], wav)
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_a_lossy_file_sounds_like_its_samples(tmp_path: Path, suffix: str) -> None:
    signal = tone(RATE, 5.0)

    with open_audio(tmp_path / f"a{suffix}", RATE) as writer:
        writer.write(signal)

    decoded, _ = soundfile.read(tmp_path / f"a{suffix}")
    middle = slice(RATE, 4 * RATE)
    assert abs(np.abs(np.fft.rfft(decoded[middle])).argmax() - 600) <= 1  # 200 Hz in 3 s
    assert np.std(decoded[middle]) == pytest.approx(np.std(signal[middle]), rel=0.05)


def test_a_format_without_the_sample_rate_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="MP3 has no sample rate of 7000 Hz"),
        open_audio(tmp_path / "a.mp3", 7000),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_samples_past_one_leave_no_file(tmp_path: Path, suffix: str) -> None:
    with (
        pytest.raises(DataError, match="sample 3 is 1.5"),
        open_audio(tmp_path / f"a{suffix}", RATE) as writer,
    ):
        writer.write(np.zeros(2, np.float32))
        writer.write(np.array([0.0, 1.5], np.float32))
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused_with_those_that_are_written(run: Run, model: None) -> None:
    done = run(*GENERATE, "output=speech.m4a")

    assert done.returncode == 2
    suffixes = ".wav, .flac, .ogg, .mp3"
    assert f"output must be a file {suffixes}, or /dev/stdout, got speech.m4a" in done.stderr


REFUSED = [
    ("generate", "output=old.wav", 2, "old.wav exists: choose another output, or overwrite=tr"),
    ("generate", "output=-", 2, ".mp3, or /dev/stdout, got -"),
    ("generate", "input=none.wav", 3, "none.wav: no such file"),
    ("generate", "input=-", 3, "-: input and prompt are files, not pipes or devices: write"),
    ("generate", "prompt=/dev/null", 3, "/dev/null: input and prompt are files, not pipes"),
    ("generate", "prompt=none.wav", 3, "none.wav: no such file"),
    ("evaluate", "output=old.html", 2, "old.html exists: choose another output, or overwrite="),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Done, list[str]]]]:
    """A folder, what the commands of `REFUSED` do there, and whether they load PyTorch."""
    folder = tmp_path_factory.mktemp("refused")
    for name in ("old.wav", "old.html"):
        (folder / name).write_bytes(b"mine")
    lines = [(verb, "demo_voice", words) for verb, words, *_ in REFUSED]
    return folder, run_in_one_process(folder, ("torch",), lines)


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[" ".join(one[:2]) for one in REFUSED])
def test_what_files_rule_out_is_refused_before_torch_loads(
    refused: tuple[Path, list[tuple[Done, list[str]]]], number: int
) -> None:
    _, _, code, message = REFUSED[number]
    folder, results = refused
    done, loaded = results[number]

    assert done.returncode == code
    assert message in done.stderr
    assert (done.stdout, loaded) == ("", [])
    for name in ("old.wav", "old.html"):
        assert (folder / name).read_bytes() == b"mine"


def test_a_length_under_one_sample_is_refused_as_it_was_given(run: Run) -> None:
    done = run("generate", "demo_voice", "seconds=0.00001")

    assert done.returncode == 2
    assert "seconds=1e-05 is less than one sample at 8000 Hz" in done.stderr


def test_vowels_are_drawn_with_a_temperature_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    signals = []
    for name, options in (("one", ()), ("same", ("0.7",)), ("other", ("0.2",))):
        words = [f"voiced_temperature={value}" for value in options]
        done = run_here("generate", ("demo_voice", f"output={name}.wav", *words), capsys)
        assert done.returncode == 0, done.stderr
        signals.append((tmp_path / f"{name}.wav").read_bytes())

    assert "temperature 0.7, voiced 0.2" in done.stderr
    assert signals[0] == signals[1]  # the model's own temperature is 0.7
    assert signals[0] != signals[2]


def test_a_model_that_does_not_know_vowels_refuses_a_temperature_for_them(
    run: Run, model: None, tmp_path: Path
) -> None:
    done = run(*GENERATE, "voiced_temperature=0.5", "output=new.wav")

    assert done.returncode == 2
    assert "voiced_temperature requires a model with a linear predictor" in done.stderr
    assert "generating" not in done.stderr
    assert not (tmp_path / "new.wav").exists()


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_recording_that_appears_meanwhile_is_kept(tmp_path: Path, name: str) -> None:
    path, samples = tmp_path / name, tone(RATE, 0.1)

    with (
        pytest.raises(ConfigError, match=f"{name} exists, .*: choose another output, or overwrite"),
        open_audio(path, RATE, replace=False) as late,
    ):
        late.write(samples)
        with open_audio(path, RATE, replace=False) as early:
            early.write(tone(RATE, 0.1, level=0.25))

    assert abs(soundfile.read(path)[0] - 0.5 * samples).max() < 1e-4
    with open_audio(path, RATE) as other:
        other.write(samples)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_recording_at_full_scale_is_warned_of(run: Run, tmp_path: Path) -> None:
    whistle = 0.5 * np.sin(2 * np.pi * 440 / RATE * np.arange(RATE // 2))
    soundfile.write("tone.wav", whistle, RATE)
    options = "checkpoint=demo_voice", "input=tone.wav", "seed=0", "mel_consistency=0"

    loud = run("generate", *options, "output=loud.wav")

    assert re.search(r"loud.wav: the model drew \d+% of the samples at full scale", loud.stderr)


def test_a_recording_of_a_voice_is_not_warned_of(run: Run) -> None:
    done = run("generate", "seconds=0.5")

    assert done.returncode == 0
    assert "full scale" not in done.stderr
