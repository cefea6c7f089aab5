"""Kernels compiled by g++ for a stand-in for a GPU, with or without a sanitizer.

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
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from wavenet.kernels.cuda.compiler import Program
from wavenet.kernels.cuda.launch import Launch
from wavenet.model import WaveNet
from wavenet.sampling import BACKENDS, Sampler, make_sampler
from wavenet.sampling.cuda import CudaSampler
from wavenet.sampling.cuda.task import program as sampler_program

HERE = Path(__file__).parent
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
STREAM = threading.Lock()  # launches run one after the other, as on a stream of a GPU
# all backends, the cuda sampler on the stand-in
BACKENDS_HERE = [pytest.param(name, marks=[needs_compiler] * (name == "cuda")) for name in BACKENDS]


class StandIn:
    """Kernels on the stand-in; tensors are on the CPU.

    Args:
        program: Its kernels.
        sanitizer: `thread` or `address`: launches run in a program of their own.
        edits: Texts of the program's files that are replaced, to plant faults.
        seed: Of the order in which threads run.

    Attributes:
        reports: What the sanitizer has written.
    """

    device = torch.device("cpu")
    max_shared_bytes = 227 * 1024

    def __init__(
        self,
        program: Program,
        sanitizer: str = "",
        edits: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        self.sanitizer, self.seed, self.reports = sanitizer, seed, ""
        self.path = build(program, sanitizer, edits or {})
        self._load()

    def _load(self) -> None:
        if not self.sanitizer:
            self.library = ctypes.CDLL(str(self.path))
            self.library.launch.restype = None
            self.library.task_bytes.restype = ctypes.c_longlong

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "library"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._load()

    def launch(self, launch: Launch) -> None:
        task = launch.task()
        sizes = struct.pack("qqqq", launch.blocks, launch.threads, launch.shared_bytes, self.seed)
        if self.sanitizer:
            self._run_program(launch, bytes(task), sizes)
        else:
            with STREAM:
                self.library.launch(launch.kernel.encode(), ctypes.byref(task), sizes)

    def _run_program(self, launch: Launch, task: bytes, sizes: bytes) -> None:
        """Run the program on copies of the tensors, and take over what it has written."""
        content = [sizes]
        buffers = {name: _bytes_of(one) for name, one in launch.tensors.items()}
        for index, (name, *_) in enumerate(launch.task_type._fields_):
            if name in buffers:
                content += [struct.pack("q", len(buffers[name]) + 1), buffers[name]]
            else:
                content += [struct.pack("q", 0), task[8 * index : 8 * index + 8]]
        with tempfile.NamedTemporaryFile(dir=self.path.parent) as file:
            file.write(b"".join(content))
            file.flush()
            options = "detect_leaks=0:halt_on_error=0"
            environment = {**os.environ, "ASAN_OPTIONS": options, "TSAN_OPTIONS": options}
            command = [str(self.path), launch.kernel, file.name]
            run = subprocess.run(command, capture_output=True, text=True, env=environment)
            lines = [line for line in run.stderr.splitlines() if DISCLAIMER not in line]
            self.reports += "\n".join(lines)
            if run.returncode:
                raise RuntimeError(f"the stand-in exited with {run.returncode}")
            written = Path(file.name).read_bytes()[len(sizes) :]
        for name, *_ in launch.task_type._fields_:
            size = len(buffers[name]) if name in buffers else 8
            data, written = written[8 : 8 + size], written[8 + size :]
            if name in buffers and data != buffers[name]:
                flat = _flat(launch.tensors[name])
                flat.copy_(torch.frombuffer(bytearray(data), dtype=flat.dtype))


class SamplerStandIn(StandIn):
    """The cuda sampler's kernel on the stand-in, for a weight dtype and models that predict."""

    def __init__(
        self, weight_dtype: str = "float32", *args: Any, predicts: bool = False, **options: Any
    ) -> None:
        super().__init__(sampler_program(weight_dtype, predicts=predicts), *args, **options)


def _flat(tensor: Tensor) -> Tensor:
    """Return the memory from a tensor's first to its last number, its gaps too."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    span = 1 + sum((size - 1) * stride for size, stride in steps) if tensor.numel() else 0
    return tensor.as_strided((span,), (1,))


def _bytes_of(tensor: Tensor) -> bytes:
    return _flat(tensor).view(torch.uint8).numpy().tobytes()


def cuda_sampler(
    model: WaveNet, weight_dtype: str = "float32", kernel: StandIn | None = None
) -> Sampler:
    """The CUDA sampler of a model on the stand-in."""
    predicts = model.predictor is not None
    return CudaSampler(
        model, kernel or SamplerStandIn(weight_dtype, predicts=predicts), weight_dtype
    )


def sampler_here(model: WaveNet, backend: str) -> Sampler:
    """`make_sampler`, where the cuda sampler is on the stand-in."""
    return cuda_sampler(model) if backend == "cuda" else make_sampler(model, backend)


def build(program: Program, sanitizer: str, edits: Mapping[str, str]) -> Path:
    """Compile a program for the stand-in."""
    own = {path.name: path.read_text() for path in (HERE / "kernel.cpp", HERE / "machine.cuh")}
    sources = {**program.sources, **own}
    for old, new in edits.items():
        (name,) = [name for name, text in sources.items() if text.count(old) == 1]
        sources[name] = sources[name].replace(old, new)
    stand_in = {"stand_in.cpp": (HERE / "stand_in.cpp").read_text()}
    options = ["-O2", "-fPIC", "-c", "stand_in.cpp", *["-DSANITIZER"] * bool(sanitizer)]
    options += ["-DTHREAD_SANITIZER"] * (sanitizer == "thread")
    machine = _compiled(stand_in, options)  # without a sanitizer
    options = [*FLAGS[sanitizer], "-Wall", "-Werror", "-Wno-unknown-pragmas"]
    options += [f"-D{name}" for name in program.macros]
    options += [f'-DMAIN_FILE="{program.main_file.name}"']
    options += ["-DENTRIES=" + "".join(f"ENTRY({name})" for name in program.kernels)]
    return _compiled(sources, [*options, "kernel.cpp", str(machine)])


def _compiled(sources: Mapping[str, str], options: Sequence[str]) -> Path:
    """Return what g++ makes of sources; what it has made of the same is taken again."""
    key = hashlib.sha256(repr((sorted(sources.items()), options)).encode()).hexdigest()[:24]
    parent = Path(tempfile.gettempdir()) / f"wavenet-stand-in-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    found = parent.lstat()
    assert (found.st_uid, found.st_mode & 0o22) == (os.getuid(), 0), f"{parent} is open to others"
    folder = parent / key
    with FileLock(parent / f"{key}.lock"):
        if not (folder / "done.o").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            for name, text in sources.items():
                (folder / name).write_text(text)
            command = ["g++", "-std=c++17", *options, "-o", "compiled"]
            subprocess.run(command, check=True, cwd=folder)
            (folder / "compiled").rename(folder / "done.o")
    return folder / "done.o"
