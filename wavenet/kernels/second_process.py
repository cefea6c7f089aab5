"""The CPU sampler's kernel, compiled by a second process while a command begins.

The kernel is the same for all models, the functions after it for those that ship. They take about
as long as everything else before the first sample: imports, the model, and its predictor.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from wavenet.kernels.private_files import private_folder
from wavenet.utils.cores import available_cores

KERNEL = "cpu-sampler"  # first part of the name of its file in the cache
CODE = """
from wavenet.kernels.matmul import make_product
from wavenet.kernels.sampler.kernel import compile_kernel
from wavenet.kernels.sampler.mixture_draw import draw_from_mixture

compile_kernel()
for function in make_product("float32"), draw_from_mixture:
    assert function.address
"""
_running: list["subprocess.Popen[bytes]"] = []  # at most one


@contextlib.contextmanager
def compiling_kernel() -> Iterator[None]:
    """Compile the kernel in a second process if the cache has none and there is a second core.

    A process that nothing has waited for is ended with the context.
    """
    folder = private_folder()
    if folder is None or any(folder.glob(f"{KERNEL}-*")) or available_cores() < 2:
        yield
        return
    with subprocess.Popen(
        [sys.executable, "-c", CODE],
        cwd=folder,  # Python imports from there first, and it holds no modules
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
