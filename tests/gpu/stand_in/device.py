"""The kernel compiled by g++ for a stand-in for a GPU, with or without a sanitizer.

What is compiled is kept in the folder for temporary files, for all processes and later runs.
"""

import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from filelock import FileLock

import wavenet.sampling.cuda
from wavenet.model import WaveNet
from wavenet.sampling import BACKENDS, Sampler, make_sampler
from wavenet.sampling.cuda import CudaSampler
from wavenet.sampling.cuda.task import TENSORS, Launch, Task

HERE = Path(__file__).parent
KERNELS = Path(wavenet.sampling.cuda.__file__).parent / "kernels"
FLAGS = {
    "": ("-O1", "-shared", "-fPIC"),
    "thread": ("-O1", "-g", "-DPROGRAM", "-fsanitize=thread"),
    "address": ("-O1", "-g", "-DPROGRAM", "-fsanitize=address,undefined"),
}
DISCLAIMER = "ASan doesn't fully support makecontext/swapcontext"  # it sees our memory all the same
NO_COMPILER = shutil.which("g++") is None or not sys.platform.startswith("linux")
needs_compiler = pytest.mark.skipif(
    NO_COMPILER, reason="the stand-in for a GPU needs g++ and Linux"
)
# all backends, the cuda sampler on the stand-in
BACKENDS_HERE = [pytest.param(name, marks=[needs_compiler] * (name == "cuda")) for name in BACKENDS]


class StandIn:
    """A kernel on the stand-in; tensors are on the CPU.

    Args:
        weight_dtype: Of the kernel.
        sanitizer: `thread` or `address`: launches run in a program of their own.
        edits: Texts of the kernel's files that are replaced, to plant faults.
        seed: Of the order in which threads run.

    Attributes:
        reports: What the sanitizer has written.
    """

    device = torch.device("cpu")
    max_shared_bytes = 227 * 1024

    def __init__(
        self,
        weight_dtype: str = "float32",
        sanitizer: str = "",
        edits: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        self.sanitizer, self.seed, self.reports = sanitizer, seed, ""
        self.path = build(weight_dtype, sanitizer, edits or {})
        if not sanitizer:
            self.library = ctypes.CDLL(str(self.path))
            self.library.launch.argtypes = (
                *(ctypes.POINTER(Task), ctypes.c_longlong, ctypes.c_longlong, ctypes.c_uint),
            )
            self.library.launch.restype = None
            self.library.task_bytes.restype = ctypes.c_longlong

    def launch(self, launch: Launch) -> None:
        if self.sanitizer:
            self._run_program(launch)
        else:
            task = launch.task()
            self.library.launch(task, launch.warps, launch.shared_bytes, self.seed)

    def _run_program(self, launch: Launch) -> None:
        """Run the program on copies of the tensors, and take over what it has written."""
        task = launch.task()
        content = [struct.pack("qqq", launch.warps, launch.shared_bytes, self.seed)]
        plain = memoryview(bytes(task))
        for index, (name, *_) in enumerate(Task._fields_):
            if name in TENSORS and launch.tensors.get(name) is not None:
                data = launch.tensors[name].view(torch.uint8).numpy().tobytes()
                content += [struct.pack("q", len(data) + 1), data]
            else:
                content += [struct.pack("q", 0), bytes(plain[8 * index : 8 * index + 8])]
        with tempfile.NamedTemporaryFile(dir=self.path.parent) as file:
            file.write(b"".join(content))
            file.flush()
            options = "detect_leaks=0:halt_on_error=0"
            environment = {**os.environ, "ASAN_OPTIONS": options, "TSAN_OPTIONS": options}
            run = subprocess.run(
                [str(self.path), file.name], capture_output=True, text=True, env=environment
            )
            lines = [line for line in run.stderr.splitlines() if DISCLAIMER not in line]
            self.reports += "\n".join(lines)
            if run.returncode:
                raise RuntimeError(f"the stand-in exited with {run.returncode}")
            self._read_back(launch, Path(file.name).read_bytes()[24:])

    def _read_back(self, launch: Launch, content: bytes) -> None:
        for name, *_ in Task._fields_:
            (size,) = struct.unpack_from("q", content)
            data, content = content[8 : 7 + size], content[8 + (size - 1 if size else 8) :]
            if size > 1 and name in ("gated", "queues", "history", "codes", "params"):
                tensor = launch.tensors[name]
                new = torch.frombuffer(bytearray(data), dtype=tensor.dtype)
                tensor.copy_(new.view(tensor.shape))


def cuda_sampler(
    model: WaveNet, weight_dtype: str = "float32", kernel: StandIn | None = None
) -> Sampler:
    """The CUDA sampler of a model on the stand-in."""
    return CudaSampler(model, kernel or StandIn(weight_dtype), weight_dtype)


def sampler_here(model: WaveNet, backend: str) -> Sampler:
    """`make_sampler`, where the cuda sampler is on the stand-in."""
    return cuda_sampler(model) if backend == "cuda" else make_sampler(model, backend)


def build(weight_dtype: str, sanitizer: str, edits: Mapping[str, str]) -> Path:
    """Compile the kernel; a compiled one of the same sources is taken again."""
    sources = {
        path.name: path.read_text()
        for path in (*KERNELS.iterdir(), *HERE.glob("*.cpp"), HERE / "machine.cuh")
    }
    for old, new in edits.items():
        (name,) = [name for name, text in sources.items() if text.count(old) == 1]
        sources[name] = sources[name].replace(old, new)
    flags = [*FLAGS[sanitizer], "-std=c++17", "-Wall", "-Werror", "-Wno-unknown-pragmas"]
    flags += ["-DBFLOAT16"] * (weight_dtype == "bfloat16")
    key = hashlib.sha256(repr((sorted(sources.items()), flags)).encode()).hexdigest()[:24]
    parent = Path(tempfile.gettempdir()) / f"wavenet-stand-in-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    found = parent.lstat()
    assert (found.st_uid, found.st_mode & 0o22) == (os.getuid(), 0), f"{parent} is open to others"
    folder = parent / key
    with FileLock(parent / f"{key}.lock"):
        if not (folder / "kernel").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            for name, text in sources.items():
                (folder / name).write_text(text)
            own = ["-DSANITIZER"] * bool(sanitizer)
            own += ["-DTHREAD_SANITIZER"] * (sanitizer == "thread")
            fast = ["g++", "-std=c++17", "-O2", "-fPIC", *own, "-c", "stand_in.cpp"]
            subprocess.run([*fast, "-o", "stand_in.o"], check=True, cwd=folder)
            command = ["g++", *flags, "kernel.cpp", "stand_in.o", "-o", "compiled"]
            subprocess.run(command, check=True, cwd=folder)
            (folder / "compiled").rename(folder / "kernel")
    return folder / "kernel"
