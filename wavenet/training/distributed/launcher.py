"""Launchers: torchrun, Slurm's srun, or none.

A launcher starts one process per GPU, gives each its rank, and starts them again when one fails.
All these starts together are one launch; by its name, restarted processes find their run.

Processes that are started together find each other by a store, and none of an earlier start.
torchrun keeps one store over all its restarts, and it still holds the keys of processes that have
died since. So each process writes a fresh random token, and process 0 publishes the tokens that it
read; a process that finds its own token among them knows that the others belong to this start.
"""

import datetime
import logging
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from wavenet.utils.errors import MachineError, printable

FIRST_INTERACTIVE_STEP = 0xFFFFFFF0  # Slurm numbers the steps of shells and such from here on
START_TIMEOUT = datetime.timedelta(minutes=30)  # between the first process and the last
POLL_SECONDS = 0.02
log = logging.getLogger("wavenet")


@dataclass(frozen=True)
class Launch:
    """Place of this process among those that were started together."""

    rank: int = 0  # of this process among all
    size: int = 1  # number of processes
    local_rank: int = 0  # the same among those on this host
    local_size: int = 1
    name: str | None = None  # unique to the launch, kept at restarts; `None` without restarts
    address: tuple[str, int] | None = None  # of process 0; `None` if the launcher has a store


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
        name=f"torchrun {name}",
    )


def _slurm(environment: Mapping[str, str]) -> Launch:
    job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
    size = int(environment["SLURM_NTASKS"])
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "localhost")
    port = int(environment.get("MASTER_PORT", 15000 + (7 * job + step) % 10000))
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE") or str(size)
    return Launch(
        rank=int(environment["SLURM_PROCID"]),
        size=size,
        local_rank=int(environment["SLURM_LOCALID"]),
        local_size=_expand_task_counts(tasks)[int(environment["SLURM_NODEID"])],
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


def rendezvous_store(launch: Launch) -> Store:
    """Return a store shared by exactly the processes of this start, once all have come.

    Raises:
        RuntimeError: They do not come.
    """
    store: Store
    if launch.address is None:
        store, _, _ = next(rendezvous("env://", timeout=START_TIMEOUT))
    else:
        host, port = launch.address
        store = TCPStore(host, port, launch.size, launch.rank == 0, START_TIMEOUT)
    return store_of_this_start(store, launch.rank, launch.size)


def store_of_this_start(store: Store, rank: int, size: int) -> Store:
    """Return the part of a store that belongs to the processes of this start, once all have come.

    An earlier start may have left keys in the store.
    """
    token, deadline = secrets.token_hex(8), time.monotonic() + START_TIMEOUT.total_seconds()
    store.set(f"token/{rank}", token)
    while time.monotonic() < deadline:
        if rank == 0:
            store.set("tokens", " ".join(_read(store, f"token/{peer}") for peer in range(size)))
            confirmed = [f"confirmed/{peer}" for peer in range(1, size)]
            if all(store.check([key]) and _read(store, key) == token for key in confirmed):
                return PrefixStore(token, store)
        else:
            tokens = _read(store, "tokens").split()
            if len(tokens) == size and tokens[rank] == token:
                store.set(f"confirmed/{rank}", tokens[0])
                return PrefixStore(tokens[0], store)
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"{size} processes did not all start")


def _read(store: Store, key: str) -> str:
    """Wait until a key has a value; return it."""
    return bytes(store.get(key)).decode()


def requeue(job: str | None) -> None:
    """Ask Slurm to start a job again.

    Args:
        job: Its number; `None` outside of Slurm.

    Raises:
        MachineError: Slurm refuses, or this is no Slurm job.
    """
    if job is None:
        raise MachineError("trainer.auto_requeue: SLURM_JOB_ID is not set, so this is no Slurm job")
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise MachineError(
            f"trainer.auto_requeue: cannot run scontrol ({error.strerror}); the run is saved, "
            f"submit job {job} again by hand"
        ) from error
    if done.returncode:
        raise MachineError(
            f"trainer.auto_requeue: scontrol requeue {job} failed "
            f"({printable(done.stderr.strip())}); the run is saved, submit the job again by hand"
        )
    log.info("asked Slurm to requeue job %s", job)
