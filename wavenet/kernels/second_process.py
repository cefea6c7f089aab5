"""The CPU sampler's kernel, compiled by a second process while a command begins.

The kernel is the same for all models, and takes as long as everything else before the first sample:
imports, the model, and the functions that it needs besides.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from wavenet.kernels.private_files import private_folder
from wavenet.kernels.sources import SAMPLER_SOURCES, compiled_files
from wavenet.utils.cores import available_cores

KERNEL = "cpu-sampler"  # first part of the name of its file in the cache
CODE = """
from wavenet.kernels.sampler.kernel import compile_kernel

compile_kernel()
"""
_running: list["subprocess.Popen[bytes]"] = []  # at most one


@contextlib.contextmanager
def compiling_kernel() -> Iterator[None]:
    """Compile the kernel in a second process if the cache has none and there is a second core.

    A process that nothing has waited for is ended with the context.
    """
    folder = private_folder()
    is_ready = folder is None or any(compiled_files(folder, KERNEL, SAMPLER_SOURCES))
    if is_ready or available_cores() < 2:
        yield
        return
    with subprocess.Popen(
        [sys.executable, "-c", CODE],
        cwd=folder,  # Python imports from there first, and it holds no modules
        env={**os.environ, "WAVENET_CACHE": str(folder)},  # where it was relative
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _running.append(process)
        try:
            yield
        finally:
            _running.remove(process)
            process.kill()


def wait_for_kernel() -> bool:
    """Wait for the second process, if there is one; return whether the kernel is in the cache.

    If that process failed, the kernel is compiled here.
    """
    return any(process.wait() == 0 for process in _running)
