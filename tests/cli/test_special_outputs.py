"""Outputs that are no regular files: written through or refused, never replaced by a file."""

import io
import os
import stat
import sys
import threading
from pathlib import Path

import pytest
import soundfile
import torch

from tests.commands import Run
from tests.forks import FunctionProcess
from wavenet.checkpoint import save
from wavenet.cli.main import run_command
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.utils.errors import MachineError
from wavenet.utils.files import atomic_directory, atomic_file, put_directory

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")

GENERATE = ("generate", "model", "seconds=0.01", "backend=reference", "overwrite=true")


@pytest.fixture
def model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = WaveNetConfig(dilations=(1, 2), residual_channels=4, skip_channels=4)
    save(WaveNet(config), tmp_path / "model", AudioConfig(sample_rate=8000))


def kind(path: Path | str) -> int:
    return stat.S_IFMT(Path(path).lstat().st_mode)


@pytest.mark.parametrize("linked", [False, True], ids=["pipe", "link"])
def test_a_pipe_gets_the_samples_of_the_file(run: Run, model: None, linked: bool) -> None:
    assert run(*GENERATE, "output=file.wav").returncode == 0
    os.mkfifo("pipe.wav")
    Path("link.wav").symlink_to("pipe.wav")
    name = "link.wav" if linked else "pipe.wav"
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(Path("pipe.wav").read_bytes()))
    reader.start()

    done = run(*GENERATE, f"output={name}")

    reader.join()
    assert done.returncode == 0, done.stderr
    assert received == [Path("file.wav").read_bytes()]
    assert (kind("pipe.wav"), kind("link.wav")) == (stat.S_IFIFO, stat.S_IFLNK)


def generated_to_standard_output(folder: str) -> tuple[bytes, bytes]:
    """Return what a command writes into the pipes that are its standard output and error."""
    ends = [os.pipe(), os.pipe()]
    for number, (_, end) in enumerate(ends, 1):
        os.dup2(end, number)
        os.close(end)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.chdir(folder)
    sys.argv = ["wavenet-generate", *GENERATE[1:], "output=/dev/stdout"]
    with pytest.raises(SystemExit) as ended:
        run_command("generate")
    assert ended.value.code == 0
    for number, stream in enumerate((sys.stdout, sys.stderr), 1):
        stream.flush()
        os.close(number)
    out, err = (os.read(end, 10**5) for end, _ in ends)
    return out, err


def test_standard_output_gets_the_recording_alone(run: Run, model: None, tmp_path: Path) -> None:
    assert run(*GENERATE, "output=file.wav").returncode == 0

    out, err = FunctionProcess(generated_to_standard_output, str(tmp_path)).result()

    assert out == Path("file.wav").read_bytes()
    assert soundfile.info(io.BytesIO(out)).frames == 80
    assert b"samples/s, real-time factor " in err


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("pipe.flac", (), "a pipe or device takes WAV only, not FLAC"),
        ("pipe.wav", ("num_samples=2",), "takes one recording: remove num_samples=2"),
    ],
    ids=["flac", "several"],
)
def test_what_a_pipe_cannot_take_is_refused(
    run: Run, model: None, name: str, more: tuple[str, ...], words: str
) -> None:
    os.mkfifo(name)

    done = run(*GENERATE, f"output={name}", *more)

    assert done.returncode == 2
    assert words in done.stderr
    assert kind(name) == stat.S_IFIFO


def test_a_null_device_stays_a_device(run: Run, model: None) -> None:
    Path("null.wav").symlink_to("/dev/null")

    done = run(*GENERATE, "output=null.wav")

    assert done.returncode == 0, done.stderr
    assert kind("null.wav") == stat.S_IFLNK
    assert kind("/dev/null") == stat.S_IFCHR


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_named(run: Run, model: None) -> None:
    done = run(*GENERATE, "output=/dev/full")

    assert done.returncode == 5
    assert "MachineError: cannot write /dev/full: No space left on device" in done.stderr


@pytest.mark.parametrize("linked", [False, True], ids=["pipe", "link"])
@pytest.mark.parametrize("write", ["file", "directory", "put"])
def test_no_file_or_folder_replaces_a_pipe(tmp_path: Path, write: str, linked: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "new").mkdir()
    path = tmp_path / ("link" if linked else "pipe")

    with pytest.raises(MachineError, match="never replaced by a file: choose another output"):
        if write == "put":
            put_directory(tmp_path / "new", path)
        else:
            with {"file": atomic_file, "directory": atomic_directory}[write](path):
                pass

    assert kind(tmp_path / "pipe") == stat.S_IFIFO
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "new", "pipe"]


def test_a_chart_is_not_written_over_a_device(run: Run, model: None) -> None:
    Path("chart.png").symlink_to("/dev/null")

    done = run("inspect", "model", "output=chart.png")

    assert done.returncode == 5
    assert "chart.png is a device, pipe or socket" in done.stderr
    assert kind("/dev/null") == stat.S_IFCHR
