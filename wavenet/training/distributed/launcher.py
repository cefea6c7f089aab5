"""Which launcher started this process: torchrun, Slurm's srun, or none.

A launcher starts one process per GPU, gives each its rank, and starts them again when one fails.
All these starts together are one launch; by its name, restarted processes find their run.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FIRST_INTERACTIVE_STEP = 0xFFFFFFF0  # Slurm numbers the steps of shells and such from here on


@dataclass(frozen=True)
class Launch:
    """Place of this process among those that were started together.

    Attributes:
        rank: Number of this process among all, from 0.
        size: Number of processes.
        local_rank: Number of this process among those on its host.
        local_size: Number of processes on its host.
        node: Number of the host.
        name: Unique to the launch, the same at each of its restarts; `None` without restarts.
        address: Host and port of process 0; `None` if the launcher provides a store.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    node: int = 0
    name: str | None = None
    address: tuple[str, int] | None = None


def detect_launcher(environment: Mapping[str, str]) -> Launch:
    """Return the launch that the environment describes; a single process without a launcher."""
    if {"RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"} <= environment.keys():
        return _torchrun(environment)
    step = environment.get("SLURM_STEP_ID", "")
    if step.isdigit() and int(step) < FIRST_INTERACTIVE_STEP:
        return _slurm(environment)
    return Launch()


def _torchrun(environment: Mapping[str, str]) -> Launch:
    name = environment["TORCHELASTIC_RUN_ID"]
    if name == "none":  # torchrun's default, the same for all runs
        name = f"agent {_process_identity(os.getppid())}"
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
        local_size=_expand_task_counts(tasks)[node],
        node=node,
        name=f"slurm {job}.{step}",
        address=(environment.get("MASTER_ADDR", _first_host(nodes)), port),
    )


def _first_host(nodes: str) -> str:
    """Return the first host of a list such as `gpu[007-012,020],other`."""
    match = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes


def _expand_task_counts(tasks: str) -> list[int]:
    """Return the number of tasks of each host, from a list such as `4(x2),3`."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks):
        counts += [int(count)] * int(times or 1)
    return counts


def _process_identity(process: int) -> str:
    """Return what identifies a process for good: its number, host and start time."""
    try:
        started = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        started = "unknown"
    return f"{process} on {socket.gethostname()} since {started}"
