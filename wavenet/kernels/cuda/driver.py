"""Kernels on a GPU, loaded and launched through the CUDA driver, beside torch's own work."""

import ctypes
from typing import Any

import torch

from wavenet.kernels.cuda.compiler import Program, compiled_program
from wavenet.kernels.cuda.launch import Launch
from wavenet.utils.errors import MachineError

DRIVER = "libcuda.so.1"
DEFAULT_SHARED_BYTES = 48 * 1024  # beyond, a kernel must ask for it
MAX_DYNAMIC_SHARED_BYTES = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class CudaKernels:
    """The kernels of a program on a GPU.

    Args:
        program: What they are compiled from.
        device: The GPU; its primary context, torch's, is used.
        library: The driver; absent for this machine's.

    Attributes:
        device: The GPU.
        max_shared_bytes: Shared memory that a block can have.

    Raises:
        MachineError: There is no GPU, it is too old, or a kernel cannot be compiled or loaded.
    """

    def __init__(self, program: Program, device: torch.device, library: Any = None) -> None:
        if not torch.cuda.is_available() or torch.version.hip is not None:
            raise MachineError(
                f"{program.user} needs an NVIDIA GPU, and PyTorch finds none{program.instead}"
            )
        try:
            self._library = ctypes.CDLL(DRIVER) if library is None else library
        except OSError as error:
            raise MachineError(f"{program.user} needs the CUDA driver: {error}") from error
        self._program, self._given_library = program, library
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        properties: Any = torch.cuda.get_device_properties(self.device)
        self.max_shared_bytes = int(properties.shared_memory_per_block_optin)
        code = compiled_program(program, 10 * properties.major + properties.minor)
        self._context, self._functions = ctypes.c_void_p(), dict[str, ctypes.c_void_p]()
        module = ctypes.c_void_p()  # lives as long as the process: launches may still be waiting
        self._call("cuInit", 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self.device.index)
        with torch.cuda.device(self.device):
            self._call("cuCtxSetCurrent", self._context)
            self._call("cuModuleLoadData", ctypes.byref(module), code)
            for name in program.kernels:
                function = self._functions[name] = ctypes.c_void_p()
                self._call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
                if program.dynamic_shared and self.max_shared_bytes > DEFAULT_SHARED_BYTES:
                    attribute = (MAX_DYNAMIC_SHARED_BYTES, self.max_shared_bytes)
                    self._call("cuFuncSetAttribute", function, *attribute)

    def __reduce__(self) -> Any:
        """Copies and pickles are loaded anew: addresses are those of one process."""
        return type(self), (self._program, self.device, self._given_library)

    def launch(self, launch: Launch) -> None:
        """Run a kernel on torch's current stream; nothing waits, so a graph may capture it.

        Tensors may go before it has run: torch gives their memory to later work of this stream.
        """
        task = launch.task()
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(task))
        with torch.cuda.device(self.device):
            self._call("cuCtxSetCurrent", self._context)
            self._call(
                "cuLaunchKernel",
                self._functions[launch.kernel],
                *(launch.blocks, 1, 1),
                *(launch.threads, 1, 1),
                launch.shared_bytes,
                ctypes.c_void_p(torch.cuda.current_stream(self.device).cuda_stream),
                arguments,
                None,
            )

    def _call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self._library, name)(*arguments):
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(text))
            problem = (text.value or b"unknown").decode()
            raise MachineError(f"{name} failed with error {status} of the CUDA driver: {problem}")
