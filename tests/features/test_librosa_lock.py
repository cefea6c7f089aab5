import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.commands import environment

USE = """
import numpy as np
from wavenet.features.librosa_lock import compiled_librosa
noise = np.random.default_rng(0).standard_normal(8000)
compiled_librosa().pyin(noise, fmin=60, fmax=400, sr=8000, frame_length=512)
"""


def write_in_turn(path: Path) -> None:
    with FileLock(path.with_suffix(".lock")):
        text = path.read_text()
        time.sleep(0.02)
        path.write_text(text + "x")


def test_second_process_waits_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    threads = [threading.Thread(target=write_in_turn, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert path.read_text() == 8 * "x"


@pytest.mark.slow
def test_parallel_processes_leave_a_working_cache(tmp_path: Path) -> None:
    """They compile anew, in a cache of their own: without turns, two of four such were broken."""
    line = [sys.executable, "-c", USE]
    own = {**environment(), "NUMBA_CACHE_DIR": str(tmp_path)}

    together = [subprocess.Popen(line, env=own) for _ in range(3)]
    codes = [process.wait() for process in together]
    codes.append(subprocess.run(line, env=own, check=False).returncode)

    assert codes == [0, 0, 0, 0]
    assert any(name.endswith(".nbc") for _, _, names in os.walk(tmp_path) for name in names)
