"""The kernel that a second process compiles is the one that samplers load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architectures import SMALL
from tests.commands import run_here
from wavenet import AudioConfig, WaveNet, make_sampler, save
from wavenet.cli import main
from wavenet.kernels import second_process
from wavenet.kernels.cache import KernelCache
from wavenet.kernels.compiler import get_cache
from wavenet.kernels.second_process import CODE, KERNEL, compiling_kernel, wait_for_kernel
from wavenet.kernels.sources import SAMPLER_SOURCES, sources_digest
from wavenet.sampling.cpu import CpuSampler
from wavenet.utils.cores import available_cores
from wavenet.utils.errors import ConfigError

pytestmark = pytest.mark.skipif(available_cores() < 2, reason="one core here")
TRACE = f"{KERNEL}-{sources_digest(SAMPLER_SOURCES)}-trace"
LEAVE_A_TRACE = f"""
from wavenet.kernels.private_files import private_folder
(private_folder() / "{TRACE}").touch()
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kept() -> Path:
    """The cache that holds the kernel of this process."""
    sampler = make_sampler(WaveNet(SMALL), "cpu")
    assert isinstance(sampler, CpuSampler)
    cache = get_cache(sampler.kernel)
    assert isinstance(cache, KernelCache)
    assert cache.folder is not None
    return cache.folder


def kernels(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{KERNEL}-*"))


@pytest.mark.slow
def test_the_kernel_is_that_of_any_model(kept: Path, tmp_path: Path) -> None:
    before, environment = kernels(kept), {**os.environ, "WAVENET_CACHE": str(kept)}

    subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, env=environment, check=True)

    assert before
    assert kernels(kept) == before  # a name is a digest of all that a kernel depends on


@pytest.mark.skipif("WAVENET_FULL" not in os.environ, reason="compiles: pytest --full runs it")
def test_the_kernel_is_compiled(kept: Path, cache: Path) -> None:
    with compiling_kernel():
        assert wait_for_kernel()

    (compiled,) = kernels(cache)
    assert compiled in kernels(kept)


def test_after_a_failure_this_process_compiles(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_process, "CODE", "raise SystemExit(1)")

    with compiling_kernel():
        assert not wait_for_kernel()


def test_nothing_is_compiled_twice(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_process, "CODE", LEAVE_A_TRACE)
    for _ in range(2):
        with compiling_kernel():
            first = wait_for_kernel()

    assert not first
    assert not wait_for_kernel()
    assert [path.name for path in cache.iterdir()] == [TRACE]


def test_the_kernel_of_another_version_is_none(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_process, "CODE", LEAVE_A_TRACE)
    cache.mkdir(mode=0o700)
    (cache / f"{KERNEL}-{16 * '0'}-kernel").touch()

    with compiling_kernel():
        assert wait_for_kernel()


def test_the_folder_may_be_relative(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(second_process, "CODE", LEAVE_A_TRACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAVENET_CACHE", cache.name)

    with compiling_kernel():
        assert wait_for_kernel()

    assert (cache / TRACE).exists()


@pytest.mark.parametrize("place", ["", "/dev/null"])
def test_without_a_folder_or_a_second_core_there_is_no_process(
    cache: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(second_process, "CODE", LEAVE_A_TRACE)
    with monkeypatch.context() as one_core:
        one_core.setattr(second_process, "available_cores", lambda: 1)
        with compiling_kernel():
            assert not wait_for_kernel()
    monkeypatch.setenv("WAVENET_CACHE", place)
    with compiling_kernel():
        assert not wait_for_kernel()

    assert not list(cache.iterdir())


def test_the_process_ends_with_the_command(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_process, "CODE", "import time; time.sleep(1000)")

    with pytest.raises(KeyboardInterrupt), compiling_kernel():
        (process,) = second_process._running
        raise KeyboardInterrupt

    assert process.returncode
    assert not second_process._running


def test_it_begins_before_the_config_is_composed_and_ends_with_an_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    began = []

    def compose(*_: object) -> int:
        began.extend(second_process._running)
        raise ConfigError("a value of another type")

    monkeypatch.setattr(second_process, "CODE", "import time; time.sleep(1000)")
    monkeypatch.setattr(main, "compose_and_run", compose)

    assert run_here("generate", ("backend=cpu",), capsys).returncode == 2

    (process,) = began
    assert process.returncode
    assert not second_process._running


@pytest.mark.parametrize(("backend", "begins"), [("auto", True), ("reference", False)])
def test_generate_begins_with_it(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    backend: str,
    begins: bool,
) -> None:
    make_sampler(WaveNet(SMALL), "cpu")  # this process has the kernel
    save(WaveNet(SMALL), tmp_path / "model", AudioConfig(sample_rate=8000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(second_process, "CODE", LEAVE_A_TRACE)
    words = ("model", "seconds=0.01", f"backend={backend}")

    assert run_here("generate", words, capsys).returncode == 0

    assert (cache / TRACE).exists() == begins
