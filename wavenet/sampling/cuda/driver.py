"""The kernel on a GPU, loaded and launched through the CUDA driver, beside torch's own work."""

import ctypes
from typing import Any

import torch

from wavenet.sampling.cuda.compiler import compiled_kernel
from wavenet.sampling.cuda.packing import LANES
from wavenet.sampling.cuda.task import Launch
from wavenet.utils.errors import MachineError

DRIVER = "libcuda.so.1"
KERNEL = b"sample_warps"
DEFAULT_SHARED_BYTES = 48 * 1024  # beyond, a kernel must ask for it
MAX_DYNAMIC_SHARED_BYTES = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class CudaKernel:
    """The kernel of a weight dtype on a GPU.

    Args:
        weight_dtype: `float32` or `bfloat16`.
        device: The GPU; its primary context, torch's, is used.
        library: The driver; absent for this machine's.

    Attributes:
        device: The GPU.
        max_shared_bytes: Shared memory that a block can have.

    Raises:
        MachineError: There is no GPU, it is too old, or the kernel cannot be compiled or loaded.
    """

    def __init__(self, weight_dtype: str, device: torch.device, library: Any = None) -> None:
        if not torch.cuda.is_available() or torch.version.hip is not None:
            raise MachineError(
                "backend=cuda needs an NVIDIA GPU, and PyTorch finds none: use backend=cpu or graph"
            )
        self._library = ctypes.CDLL(DRIVER) if library is None else library
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        properties: Any = torch.cuda.get_device_properties(self.device)
        self.max_shared_bytes = int(properties.shared_memory_per_block_optin)
        code = compiled_kernel(weight_dtype, 10 * properties.major + properties.minor)
        self._context, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        module = ctypes.c_void_p()  # lives as long as the process: launches may still be waiting
        self._call("cuInit", 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self.device.index)
        with torch.cuda.device(self.device):
            self._call("cuCtxSetCurrent", self._context)
            self._call("cuModuleLoadData", ctypes.byref(module), code)
            self._call("cuModuleGetFunction", ctypes.byref(self._function), module, KERNEL)
            if self.max_shared_bytes > DEFAULT_SHARED_BYTES:
                attribute = (MAX_DYNAMIC_SHARED_BYTES, self.max_shared_bytes)
                self._call("cuFuncSetAttribute", self._function, *attribute)

    def launch(self, launch: Launch) -> None:
        """Run the kernel on torch's current stream.

        Tensors may go before it has run: torch gives their memory to later work of this stream.
        """
        task = launch.task()
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(task))
        with torch.cuda.device(self.device):
            self._call("cuCtxSetCurrent", self._context)
            self._call(
                "cuLaunchKernel",
                self._function,
                *(launch.warps, 1, 1),
                *(LANES, 1, 1),
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
