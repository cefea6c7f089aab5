import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch._C._distributed_c10d import HashStore

from tests.process_groups import slurm_environment, torchrun_environment
from wavenet.training.distributed.launcher import (
    Launch,
    detect_launcher,
    requeue,
    store_of_this_start,
)
from wavenet.utils.errors import MachineError


def test_without_a_launcher_a_process_is_single() -> None:
    assert detect_launcher({}) == Launch()
    assert detect_launcher({"RANK": "1", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}) == Launch()


def test_interactive_slurm_shell_is_not_a_launch() -> None:
    environment = {**slurm_environment(0, 2, 4000, "7"), "SLURM_STEP_ID": "4294967290"}

    assert detect_launcher(environment) == Launch()


def test_torchrun_sets_ranks_and_sizes() -> None:
    environment = torchrun_environment(5, 8, 4000, "run-9") | {
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "1",
    }

    assert detect_launcher(environment) == Launch(5, 8, 1, 4, "torchrun run-9")


def test_a_torchrun_without_a_run_id_is_named_by_its_agent() -> None:
    environment = torchrun_environment(0, 2, 4000, "none")

    first, again = detect_launcher(environment), detect_launcher(environment)

    assert first.name == again.name
    assert f"agent {os.getppid()} on" in (first.name or "")


@pytest.mark.parametrize(
    ("nodes", "tasks", "first", "sizes"),
    [
        ("gpu[007-012,020],other", "4(x2),3", "gpu007", [4, 4, 3]),
        ("gpu-3", "2", "gpu-3", [2]),
        ("a1,b[2-3]", "1(x3)", "a1", [1, 1, 1]),
        ("rack[2]-ib,rack4", "8,1", "rack2-ib", [8, 1]),
    ],
)
def test_slurm_sets_ranks_sizes_and_the_address_of_rank_zero(
    nodes: str, tasks: str, first: str, sizes: list[int]
) -> None:
    for node, size in enumerate(sizes):
        environment = slurm_environment(3, sum(sizes), 4000, "123") | {
            "SLURM_STEP_NODELIST": nodes,
            "SLURM_STEP_TASKS_PER_NODE": tasks,
            "SLURM_NODEID": str(node),
            "SLURM_LOCALID": "0",
        }

        found = detect_launcher(environment)

        assert found.address == (first, 4000)
        assert (found.local_size, found.name) == (size, "slurm 123.0")


def test_steps_of_a_job_use_different_ports() -> None:
    ports = set()
    for step in range(5):
        environment = slurm_environment(0, 2, 4000, "123") | {"SLURM_STEP_ID": str(step)}
        del environment["MASTER_PORT"]
        ports.add((detect_launcher(environment).address or ("", 0))[1])

    assert len(ports) == 5


def test_processes_find_those_of_their_own_start_in_a_used_store() -> None:
    store = HashStore()

    for size in (3, 3, 2, 4):
        with ThreadPoolExecutor(size) as pool:
            parts = list(
                pool.map(
                    lambda rank, size=size: store_of_this_start(store, rank, size), range(size)
                )
            )

        assert not parts[1].check(["word"]), "keys of an earlier start are visible"
        parts[0].set("word", "yes")
        assert all(part.get("word") == b"yes" for part in parts)


def scontrol(folder: Path, script: str) -> None:
    """Put a program of that name in `folder`."""
    program = folder / "scontrol"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_a_job_is_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol(tmp_path, f'echo "$@" > {tmp_path}/arguments')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    requeue("123")

    assert (tmp_path / "arguments").read_text() == "requeue 123\n"


def test_a_failed_requeue_is_reported_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"cannot run scontrol.*the run is saved"):
        requeue("123")
    with pytest.raises(MachineError, match=r"no Slurm job"):
        requeue(None)
    scontrol(tmp_path, 'echo "Job is not allowed" >&2; exit 1')
    with pytest.raises(MachineError, match=r"requeue 123 failed \(Job is not allowed\)"):
        requeue("123")
