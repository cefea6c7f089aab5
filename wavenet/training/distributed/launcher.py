"""What started this process: torchrun, Slurm's srun, or a person, who starts one alone.

A launcher starts one process for each GPU, tells each its number, and starts them again when one
fails. All that one start came to, however often it is repeated, is one launch: its name is what
the processes find their run by when they are started again.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

INTERACTIVE_STEPS = 0xFFFFFFF0  # Slurm's numbers for shells and such, from here on


@dataclass(frozen=True)
class Launch:
    """One process among those that were started together.

    Attributes:
        rank: Its number among all, from 0.
        size: How many there are.
        local_rank: Its number among those on this host.
        local_size: How many there are on this host.
        node: The host's number.
        name: The same whenever the launcher starts these processes again, and for them alone;
            absent where nothing starts them again.
        address: Host and port where process 0 is met; absent where the launcher sees to that.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    node: int = 0
    name: str | None = None
    address: tuple[str, int] | None = None


def detect_launcher(environment: Mapping[str, str]) -> Launch:
    """Return what the launcher says in the environment; without one, a process alone."""
    if {"RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"} <= environment.keys():
        return _torchrun(environment)
    step = environment.get("SLURM_STEP_ID", "")
    if step.isdigit() and int(step) < INTERACTIVE_STEPS:
        return _slurm(environment)
    return Launch()


def _torchrun(environment: Mapping[str, str]) -> Launch:
    name = environment["TORCHELASTIC_RUN_ID"]
    if name == "none":  # of all runs that were given no name
        name = f"agent {_identity(os.getppid())}"
    return Launch(
        rank=int(environment["RANK"]),
        size=int(environment["WORLD_SIZE"]),
        local_rank=int(environment["LOCAL_RANK"]),
        local_size=int(environment["LOCAL_WORLD_SIZE"]),
        node=int(environment["GROUP_RANK"]),
        name=f"torchrun {name}",
    )


def _slurm(environment: Mapping[str, str]) -> Launch:
    job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
    size = int(environment["SLURM_NTASKS"])
    node = int(environment["SLURM_NODEID"])
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "localhost")
    port = int(environment.get("MASTER_PORT", 15000 + (7 * job + step) % 10000))
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE") or str(size)
    return Launch(
        rank=int(environment["SLURM_PROCID"]),
        size=size,
        local_rank=int(environment["SLURM_LOCALID"]),
        local_size=_unfolded(tasks)[node],
        node=node,
        name=f"slurm {job}.{step}",
        address=(environment.get("MASTER_ADDR", _first(nodes)), port),
    )


def _first(nodes: str) -> str:
    """Return the first host of a list such as `gpu[007-012,020],other`."""
    match = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes


def _unfolded(tasks: str) -> list[int]:
    """Return the tasks of each host, from a list such as `4(x2),3`."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks):
        counts += [int(count)] * int(times or 1)
    return counts


def _identity(process: int) -> str:
    """Return what no other process has: host, number, and when it was started."""
    try:
        started = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        started = "unknown"
    return f"{process} on {socket.gethostname()} since {started}"
