"""What all tests share: one thread each, their order, and a few recordings."""

import gc
import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

hypothesis.settings.register_profile("wavenet", deadline=None)  # speed is for benchmarks
hypothesis.settings.load_profile("wavenet")

SLOWEST_FILES = (  # first, or one worker of `make test` runs them alone while the others are done
    "cli/test_torchrun.py",
    "cli/test_commands.py",
    "packaging/test_wheel.py",
    "faults/test_fuzz.py",
    "sampling/cpu/test_parity.py",
    "training/distributed/test_process_group.py",
    "test_export.py",
    "cli/test_sweeps.py",
    "faults/test_kills.py",
    "gpu/test_run.py",
    "cli/test_shards.py",
    "cli/test_conditioned.py",
    "kernels/test_cache.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--full`."""
    parser.addoption(
        "--full",
        action="store_true",
        help="try all faults, and many more models",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell modules of tests of `--full`, before they are read; give PyTorch one thread."""
    if config.getoption("full"):
        os.environ["WAVENET_FULL"] = "1"
    if not config.getoption("numprocesses", None):  # the process that starts workers needs none
        import torch

        torch.set_num_threads(1)  # small products are fastest so, on a busy machine too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first; the others keep their order."""
    slowest = [Path(__file__).parent / name for name in SLOWEST_FILES]
    items.sort(key=lambda item: slowest.index(item.path) if item.path in slowest else len(slowest))


def pytest_collection_finish() -> None:
    """Leave what was imported for all tests out of every garbage collection, and have fewer."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # composing configs creates many objects, and frees them


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short recordings at 8 kHz: tones that fade, over a little noise."""
    folder = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(0)
    t = np.arange(6000) / 8000
    for index in range(6):
        tone = 0.5 * np.sin(2 * np.pi * 110 * (index + 2) * t) * np.exp(-2 * t)
        noisy = tone + 0.01 * generator.standard_normal(len(t))
        soundfile.write(folder / f"tone-{index}.wav", noisy, 8000)
    return folder


@pytest.fixture
def noise() -> NDArray[np.float32]:
    """Return half a second of noise at 16 kHz, every sample a multiple of 1/128."""
    codes = np.random.default_rng(0).integers(-100, 100, 8000)
    return (codes / 128).astype(np.float32)
