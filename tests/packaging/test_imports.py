"""What `import wavenet` costs: torch, safetensors and numpy, and no trace of itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wavenet

pytestmark = pytest.mark.slow

IMPORT = "from wavenet.modules import CausalConv1d"  # which runs `import wavenet` before

TRACES = """
import os, random, signal, sys, warnings
import numpy, safetensors.torch, torch

def state():
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "seed": torch.initial_seed(),
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": str(numpy.random.get_state()),
        "Python's generator": random.getstate(),
        "default type": torch.get_default_dtype(),
        "precision of matrix products": torch.get_float32_matmul_precision(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "gradients": torch.is_grad_enabled(),
        "filters of warnings": list(warnings.filters),
        "handlers of signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
    }

def watch(event, arguments):
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event.startswith(("socket.", "subprocess.", "os.mkdir")):
        touched.append((event, arguments))

touched = []
before = state()
sys.addaudithook(watch)
IMPORT
after = state()
print([key for key in before if before[key] != after[key]] + touched)
"""


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that finds the same `wavenet`."""
    found = {"PYTHONPATH": str(Path(wavenet.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | found,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_an_import_changes_no_global_state_and_writes_no_file(tmp_path: Path) -> None:
    done = run_python(TRACES.replace("IMPORT", IMPORT), tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert not done.stderr


def test_blocks_import_torch_and_the_standard_library_only(tmp_path: Path) -> None:
    loaded = "{name.partition('.')[0] for name in sys.modules}"
    blocks = "import wavenet.modules, wavenet.modules.compat, wavenet.modules.streaming"
    code = f"import sys, torch; before = {loaded}; {blocks}; print(*{loaded} - before)"

    done = run_python(code, tmp_path)

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"wavenet"}
