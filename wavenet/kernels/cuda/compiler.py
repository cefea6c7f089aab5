"""CUDA C++ compiled by NVRTC, NVIDIA's compiler in a library, and kept with the CPU kernels.

The library comes with the CUDA builds of torch, or with the package `nvidia-cuda-nvrtc`.
"""

import ctypes
import functools
import hashlib
import importlib.util
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavenet.kernels.private_files import private_folder, read_private, write_private
from wavenet.utils.errors import MachineError, printable

log = logging.getLogger("wavenet")
HERE = Path(__file__).parent
OPTIONS = ("--std=c++17", "--device-as-default-execution-space")
LIBRARIES = ("libnvrtc.so.13", "libnvrtc.so.12")
MIN_CAPABILITY = 80  # the first GPUs whose tensor cores have bfloat16 and TF32


@dataclass(frozen=True)
class Program:
    """Kernels that are compiled together.

    Attributes:
        name: In the names of files of the cache.
        main_file: It includes headers of its folder, and `machine.cuh`.
        kernels: Names of the kernels.
        macros: Names that are defined.
        user: What needs it, the subject of errors.
        instead: The end of errors that say what to use where it does not run.
        dynamic_shared: Whether kernels may take all of a block's shared memory.
    """

    name: str
    main_file: Path
    kernels: tuple[str, ...]
    macros: tuple[str, ...] = ()
    user: str = "a kernel for NVIDIA GPUs"
    instead: str = ""
    dynamic_shared: bool = False

    @property
    def sources(self) -> dict[str, str]:
        """Text of the main file and of all headers that it may include, by name."""
        headers = {*self.main_file.parent.glob("*.cuh"), HERE / "machine.cuh"}
        paths = sorted({self.main_file, *headers})
        return {path.name: path.read_text(encoding="utf-8") for path in paths}


class Nvrtc:
    """The library.

    Raises:
        MachineError: It is not there.
    """

    def __init__(self) -> None:
        found = importlib.util.find_spec("nvidia")
        parents = [] if found is None else found.submodule_search_locations or []
        folders = [folder for parent in parents for folder in sorted(Path(parent).glob("*/lib"))]
        paths = [folder / name for name in LIBRARIES for folder in folders]
        for path in [*paths, *LIBRARIES]:  # the last: where the system looks
            try:
                if isinstance(path, Path):  # it would not look for its other half in its folder
                    for other in sorted(path.parent.glob("libnvrtc-builtins.so*")):
                        ctypes.CDLL(str(other))
                self.library = ctypes.CDLL(str(path))
            except OSError:
                continue
            break
        else:
            raise MachineError(
                "kernels for a GPU are compiled with NVRTC, which is not installed: it comes with "
                "the CUDA builds of torch, or with pip install nvidia-cuda-nvrtc"
            )

    def version(self) -> tuple[int, int]:
        """Return its major and minor version."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def capabilities(self) -> list[int]:
        """Return the compute capabilities that it compiles for, such as 90."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        known = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", known)
        return list(known)

    def architecture(self, program: Program, capability: int) -> str:
        """Return what to compile for: code for a GPU, or for an unknown one PTX of an older one.

        Raises:
            MachineError: The GPU or the library is too old.
        """
        if capability < MIN_CAPABILITY:
            raise MachineError(
                f"{program.user} needs a GPU of compute capability {MIN_CAPABILITY / 10:g} or "
                f"more, this one has {capability / 10:g}{program.instead}"
            )
        known = [one for one in self.capabilities() if MIN_CAPABILITY <= one <= capability]
        if not known:
            raise MachineError(
                f"NVRTC {self.version()} is too old for a GPU of compute capability "
                f"{capability / 10:g}: upgrade torch{program.instead.replace(':', ', or')}"
            )
        same_family = known[-1] // 10 == capability // 10
        return f"{'sm' if same_family else 'compute'}_{known[-1]}"

    def compile(self, program: Program, architecture: str) -> bytes:
        """Return the kernels as a cubin, or as PTX for `compute_*`."""
        headers = program.sources
        main = headers.pop(program.main_file.name).encode(), program.main_file.name.encode()
        handle = ctypes.c_void_p()
        texts, names = _strings(headers.values()), _strings(headers)
        self._call("nvrtcCreateProgram", ctypes.byref(handle), *main, len(headers), texts, names)
        try:
            macros = [f"--define-macro={name}" for name in program.macros]
            options = _strings([*OPTIONS, *macros, f"--gpu-architecture={architecture}"])
            status = self.library.nvrtcCompileProgram(handle, len(options), options)
            if status:
                problem = self._get("ProgramLog", handle).decode(errors="replace")
                raise MachineError(f"NVRTC does not compile for {architecture}: {problem}")
            return self._get("PTX" if architecture.startswith("compute") else "CUBIN", handle)
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(handle))

    def _get(self, name: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{name}Size", program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{name}", program, content)
        return content.raw

    def _call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self.library, name)(*arguments):
            raise MachineError(f"{name} failed with {status}")


@functools.lru_cache
def compiled_program(program: Program, capability: int) -> bytes:
    """Return the kernels for a GPU, from the cache if they are there.

    Raises:
        MachineError: NVRTC is missing or does not compile for the GPU.
    """
    nvrtc = Nvrtc()
    architecture = nvrtc.architecture(program, capability)
    facts = (sorted(program.sources.items()), program.macros, nvrtc.version(), OPTIONS)
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    folder = private_folder()
    path = folder and folder / f"cuda-{program.name}-{architecture}-{key}.bin"
    try:
        if path is not None and path.exists():
            return read_private(path)
    except (OSError, ValueError) as error:
        log.debug("%s cannot be used: %s", printable(path), printable(error))
    log.info("compiling %s for this GPU, once: this takes seconds", program.name)
    started = time.perf_counter()
    code = nvrtc.compile(program, architecture)
    log.info("compiled in %.1f s", time.perf_counter() - started)
    try:
        if path is not None:
            write_private(path, code)
    except (OSError, MachineError) as error:  # the next process compiles again
        log.debug("%s cannot be written: %s", printable(path), printable(error))
    return code


def _strings(texts: Any) -> Any:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)
