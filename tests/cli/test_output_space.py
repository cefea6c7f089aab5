"""Outputs that do not fit, and generations that are interrupted: what stays on the disk."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.commands import Run
from tests.forks import CommandProcess
from tests.waiting import wait_until
from wavenet.checkpoint import save
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.audio_output import check_space
from wavenet.model import WaveNet
from wavenet.utils.errors import ConfigError, MachineError

RATE = 8000
GENERATE = ("checkpoint=model", "backend=reference", "output=out/long.wav")


@pytest.fixture
def model(tmp_path: Path) -> None:
    config = WaveNetConfig(dilations=(1, 2), residual_channels=4, skip_channels=4)
    save(WaveNet(config), tmp_path / "model", AudioConfig(sample_rate=RATE))


@pytest.mark.parametrize(
    ("output", "size"), [("out/a.wav", "16 TB"), ("out/a.flac", "8 TB"), ("a.ogg", "8 TB")]
)
def test_an_output_larger_than_the_disk_is_refused_before_it_is_begun(
    run: Run, model: None, tmp_path: Path, output: str, size: str
) -> None:
    done = run("generate", *GENERATE[:2], f"output={output}", "seconds=1e9")

    assert done.returncode == 5
    assert f"the output needs {size} of disk, " in done.stderr
    assert "free: free some space, choose another place or a shorter output" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_output_that_cannot_be_written_is_refused_before_it_is_begun(
    run: Run, model: None
) -> None:
    Path("file").touch()

    done = run("generate", *GENERATE[:2], "output=file/below/a.wav")

    assert done.returncode == 5
    assert done.stderr.startswith("MachineError: cannot write file/below/a.wav: Not a directory")
    assert "generating" not in done.stderr
    assert "space" not in done.stderr


def test_a_page_that_cannot_be_written_is_refused_before_the_evaluation(
    run: Run, model: None
) -> None:
    Path("file").touch()

    done = run("evaluate", "checkpoint=model", "data.root=missing", "output=file/a.html")

    assert done.returncode == 5
    assert done.stderr.startswith("MachineError: cannot write file/a.html: Not a directory")


def test_several_outputs_must_fit_together(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    half = round(0.3 * free)  # of the free bytes, in samples of two

    check_space({tmp_path / "a.flac": half}, RATE)
    with pytest.raises(MachineError, match="needs .* of disk"):
        check_space({tmp_path / f"{i}.flac": half for i in range(4)}, RATE)


def test_a_wav_past_4_gib_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 5e9:
        pytest.skip("needs 5 GB of free disk")

    with pytest.raises(ConfigError, match="holds at most 74.6 hours at 8000 Hz, 83.3 were"):
        check_space({tmp_path / "a.wav": 300_000 * RATE}, RATE)


def test_a_past_larger_than_the_memory_is_refused(run: Run, tmp_path: Path) -> None:
    config = WaveNetConfig(
        dilations=(2**24,) * 4, kernel_size=64, residual_channels=64, gate_channels=2
    )
    save(WaveNet(config), tmp_path / "model", AudioConfig(sample_rate=RATE))

    done = run("generate", *GENERATE, "seconds=0.01")

    assert done.returncode == 5
    assert "the past of the dilated convolutions needs 1.08 TB of memory, " in done.stderr


def test_a_pipe_takes_any_length() -> None:
    check_space({Path("/dev/stdout"): 10**15}, RATE)


def test_more_seconds_than_a_lifetime_are_no_length(run: Run, model: None) -> None:
    done = run("generate", *GENERATE, "seconds=1e308")

    assert done.returncode == 2
    assert "seconds" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_generation_leaves_no_file(
    run: Run, model: None, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = CommandProcess(tmp_path, "generate", *GENERATE, "seconds=20000")
    out = tmp_path / "out"
    wait_until(lambda: out.is_dir() and any(out.iterdir()), "nothing was begun")
    process.signal(number)
    ended = process.wait()

    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    if number != signal.SIGKILL:
        assert not out.exists()
        return
    (temporary,) = out.iterdir()  # nobody can clean up after SIGKILL; the next generation does
    assert temporary.name.startswith(".long.wav.tmp-")
    for age, stays in ((0, True), (7200, False)):
        os.utime(temporary, (time.time() - age,) * 2)
        done = run("generate", *GENERATE, "seconds=0.01", "overwrite=true")
        assert done.returncode == 0, done.stderr
        assert temporary.exists() == stays
    assert [path.name for path in out.iterdir()] == ["long.wav"]
