"""Whatever becomes of the cache, the result is the same; at worst it is compiled again."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from numba import njit

import wavenet
from tests.architectures import num_examples
from tests.commands import ROOT
from tests.forks import FunctionProcess
from wavenet import WaveNet, WaveNetConfig, make_sampler
from wavenet.kernels.cache import KernelCache
from wavenet.kernels.compiler import set_cache
from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.kernels.predictor_coefficients import cpu_coefficients
from wavenet.kernels.private_files import private_folder
from wavenet.mel_predictor import MelPredictor
from wavenet.sampling import WEIGHT_DTYPES

SOURCES = ROOT / "wavenet" / "kernels"


class Compilations(logging.Handler):
    """Notes whether anything was compiled."""

    found = False

    def emit(self, record: logging.LogRecord) -> None:
        self.found |= "compiling" in record.getMessage()


def coefficients() -> list[float]:
    """Return results of a kernel that compiles in a second."""
    frames = torch.linspace(-1, 1, 80).view(1, 2, 40)
    predictor = wavenet.load("demo_voice").model.predictor
    assert isinstance(predictor, MelPredictor)
    found: list[float] = cpu_coefficients(predictor, frames).flatten().tolist()
    return found


def parameters(weight_dtypes: Sequence[str]) -> list[float]:
    """Return results of a sampler's kernels, for each type of weights."""
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig(quantization_channels=16, dilations=(1, 2)))
    waveform = torch.linspace(-1, 1, 30)[None]
    return [
        number
        for weight_dtype in weight_dtypes
        for number in make_sampler(model, "cpu", weight_dtype=weight_dtype)
        .teacher_forced(waveform)
        .flatten()
        .tolist()
    ]


def gates() -> list[float]:
    """Return results of a kernel of the training pass."""
    y = torch.linspace(-3, 3, 40 * 32).view(40, 32)
    gated_activation = fast_gated_activation(40, 16, y)
    return gated_activation.forward(y, None, torch.zeros(40, 16)).flatten().tolist()


def computed(function: Callable[..., list[float]], *arguments: Any) -> tuple[list[float], bool]:
    """Return the results of a function, and whether it compiled."""
    compilations, logger = Compilations(), logging.getLogger("wavenet")
    logger.addHandler(compilations)
    logger.setLevel(logging.INFO)
    return function(*arguments), compilations.found


def computed_on_a_full_disk(function: Callable[..., list[float]]) -> tuple[list[float], bool]:
    """Return the same, in a process that can write no file."""
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    return computed(function)


def start(folder: str, *call: Any) -> FunctionProcess:
    """Start a process, which has compiled nothing yet, with its cache in a folder."""
    return FunctionProcess(*call, variables={"WAVENET_CACHE": folder})


def compiled(folder: Path | None) -> bool:
    """Run a small function as a new process would; return whether it was compiled."""
    function = njit(lambda x: 3 * x + 1)
    cache = KernelCache("small", folder, [SOURCES])
    set_cache(function, cache)
    assert function(5) == 16
    return cache.hits == 0


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds a compiled function."""
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path / "made" / "here"))
    made = private_folder()
    assert made is not None
    assert compiled(made)
    assert not compiled(made)
    return made


def test_the_folder_is_private(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert only_file(folder).stat().st_mode & 0o777 == 0o600


def test_a_file_cut_anywhere_is_compiled_again_and_replaced(folder: Path) -> None:
    path = only_file(folder)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // num_examples(10, 200)):
        path.write_bytes(whole[:length])

        assert compiled(folder)
        assert not compiled(folder)


@pytest.mark.parametrize("place", [0, 40, 5000, -1])
def test_flipped_bit_is_detected(folder: Path, place: int) -> None:
    path = only_file(folder)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)

    assert compiled(folder)


def test_foreign_file_with_the_right_digest_is_ignored(folder: Path) -> None:
    path = only_file(folder)
    path.write_bytes(hashlib.sha256(b"not a pickle").digest() + b"not a pickle")

    assert compiled(folder)
    assert not compiled(folder)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder_writable_by_others_is_not_used(
    folder: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder.chmod(mode)

    assert private_folder() is None
    assert "open to others" in caplog.text


def test_file_writable_by_others_is_not_read(folder: Path) -> None:
    only_file(folder).chmod(0o666)

    assert compiled(folder)


def test_symbolic_link_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    monkeypatch.setenv("WAVENET_CACHE", str(link))

    assert private_folder() is None


@pytest.mark.parametrize("place", ["", "/proc/none", "/dev/null", "/dev/null/folder"])
def test_unwritable_place_gives_no_folder(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVENET_CACHE", place)

    assert private_folder() is None
    assert compiled(None)


def test_removed_folder_only_disables_the_cache(folder: Path) -> None:
    only_file(folder).unlink()
    folder.rmdir()
    folder.write_text("a file is here")

    assert compiled(folder)


def test_user_without_home_gets_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAVENET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/none")

    assert private_folder() is None


def test_changed_sources_are_recompiled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavenet.kernels.cache.sources_digest", lambda sources: "another version")

    assert compiled(folder)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.slow
def test_parallel_cold_starts_succeed_and_fill_the_cache(tmp_path: Path) -> None:
    folder = str(tmp_path / "new")
    cold = [start(folder, computed, coefficients) for _ in range(2)]
    results = [process.result() for process in cold]
    results.append(start(folder, computed, coefficients).result())

    assert [compiles for _, compiles in results] == [True, True, False]
    assert results[0][0] == results[1][0] == results[2][0]


@pytest.mark.slow
def test_kernels_that_different_processes_compiled_do_not_mix() -> None:
    folder = str(private_folder() or "")  # these kernels take long: they are shared with all tests
    names = WEIGHT_DTYPES[:2]
    apart = [start(folder, computed, parameters, [name]).result()[0] for name in names]

    together, compiles = start(folder, computed, parameters, names).result()

    assert not compiles
    assert together == apart[0] + apart[1]


@pytest.mark.slow
def test_a_kernel_of_training_is_compiled_by_the_first_process_only(tmp_path: Path) -> None:
    results = [start(str(tmp_path), computed, gates).result() for _ in range(2)]

    assert [compiles for _, compiles in results] == [True, False]
    assert results[0][0] == results[1][0]


@pytest.mark.slow
def test_full_disk_only_disables_the_cache(tmp_path: Path) -> None:
    process = start(str(tmp_path / "cache"), computed_on_a_full_disk, coefficients)

    _, compiles = process.result()

    assert compiles
    assert not list((tmp_path / "cache").iterdir())
