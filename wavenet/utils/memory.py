"""How much memory and disk there is, compared with what is needed before any of it is taken."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from wavenet.utils.errors import MachineError, printable
from wavenet.utils.files import nearest_folder

CGROUP = Path("/sys/fs/cgroup")  # version 2, as a container sees it


def size_text(count: float) -> str:
    """Return a number of bytes in words, such as `1.5 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def check_memory(
    needed: int, what: str, device: Any = None, instead: str = "use a machine with more"
) -> None:
    """Raise a `MachineError` if `what` needs more bytes than this process can still take.

    Args:
        needed: Bytes.
        what: What needs them.
        device: The `torch.device` that has them; absent for the machine.
        instead: What to do, for the message.
    """
    on_gpu = device is not None and device.type == "cuda"
    free = _free_of_gpu(device) if on_gpu else available_memory()
    if free is not None and needed > free:
        raise MachineError(
            f"{what} needs {size_text(needed)} of memory, {size_text(free)} are free: {instead}"
        )


def check_free_disk(folder: Path, needed: int, what: str) -> None:
    """Raise a `MachineError` if `what` needs more bytes than the disk of `folder` has free.

    A folder that does not exist yet is made on the disk of the nearest one that does.
    """
    try:
        free = shutil.disk_usage(nearest_folder(folder)).free
    except OSError:
        return  # reported when it is written
    if needed > free:
        raise MachineError(
            f"{what} needs {size_text(needed)} of disk, {printable(folder)} has "
            f"{size_text(free)} free: free some space, choose another place or a shorter output"
        )


def available_memory() -> int | None:
    """Return the bytes that this process can still take; `None` where the system does not say."""
    if sys.platform != "linux":
        return None
    found = [_free_of_machine(), _free_of_container(), _free_of_limit()]
    return min((count for count in found if count is not None), default=None)


def _free_of_gpu(device: Any) -> int:
    import torch  # not at the start: commands check disks and memory before they load it

    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def _free_of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration, IndexError):
        return None
    return 1024 * int(kilobytes)


def _free_of_container() -> int | None:
    try:
        limit = int((CGROUP / "memory.max").read_text("ascii"))  # no number without a limit
        used = int((CGROUP / "memory.current").read_text("ascii"))
        lines = (CGROUP / "memory.stat").read_text("ascii").splitlines()
        cache = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, IndexError):
        return None
    return max(0, limit - used + cache)


def _free_of_limit() -> int | None:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    return max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))
