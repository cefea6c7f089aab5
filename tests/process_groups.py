"""Starts the processes of a process group in tests, as torchrun or Slurm would."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.commands import Done
from tests.forks import SERVER, CommandProcess
from wavenet.training.checkpointing import find_checkpoints, read_checkpoint
from wavenet.training.distributed.process_group import ProcessGroup, join_process_group
from wavenet.training.options import TrainerOptions
from wavenet.utils.errors import WavenetError

JOIN_SECONDS = 200  # within which a process of a test must end
TRAIN = (
    "recipe=folder",
    "model=tiny",
    "audio.sample_rate=8000",
    "data.test_fraction=0.2",
    "data.valid_fraction=0.2",
    "optim.lr=0.01",
    "optim.warmup_steps=5",
    "trainer.global_batch_size=8",
    "trainer.segment_length=200",
    "trainer.precision=32-true",  # in bf16, sums differ by more when they are split
    "trainer.preview_seconds=0",
    "trainer.ddp_timeout_seconds=120",
    "evaluation.sample_seconds=0",
)


def free_port() -> int:
    """Return the number of a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def torchrun_environment(rank: int, size: int, port: int, name: str) -> dict[str, str]:
    """Return the environment that torchrun sets, with all processes on one host."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": name,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def slurm_environment(rank: int, size: int, port: int, name: str) -> dict[str, str]:
    """Return the environment that Slurm sets, with all processes on one host."""
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": str(size),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": str(size),
        "SLURM_JOB_ID": name,
        "SLURM_STEP_ID": "0",
        "MASTER_PORT": str(port),
    }


def run_in_group(
    size: int, function: Callable[[ProcessGroup], Any], timeout: float, folder: Path
) -> list[str]:
    """Call `function` in each process of a new group; return the results as text, by rank."""
    port, results = free_port(), SERVER.Queue()
    environments = [torchrun_environment(rank, size, port, "7") for rank in range(size)]
    processes = [
        SERVER.Process(target=_call, args=(environment, function, timeout, results, folder))
        for environment in environments
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(JOIN_SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * size, f"exit codes {codes}; None hangs"
    return [text for _, text in sorted(results.get(timeout=JOIN_SECONDS) for _ in processes)]


def train_in_group(
    folder: Path,
    size: int,
    *arguments: str,
    name: str = "7",
    environment: Any = torchrun_environment,
) -> list[Done]:
    """Run `wavenet-train` in so many processes; return the output of each."""
    port = free_port()
    environments = [environment(rank, size, port, name) for rank in range(size)]
    processes = [start_training(folder, one, *arguments) for one in environments]
    return [process.wait() for process in processes]


def start_training(folder: Path, environment: Mapping[str, str], *arguments: str) -> CommandProcess:
    """Start a process of a group that runs `wavenet-train` in a folder."""
    environment = {**environment, "GLOO_SOCKET_IFNAME": "lo"}
    rank = next(iter(environment.values()))
    return CommandProcess(folder, "train", *arguments, variables=environment, name=rank)


def last_checkpoint(run: Path) -> dict[str, Any]:
    """Return the tensors of a run's last training checkpoint, and its curves."""
    contents = read_checkpoint(find_checkpoints(run)[-1])
    tensors = {
        f"{part}.{name}": tensor
        for part in ("model", "ema_model")
        for name, tensor in contents[part].items()
    }
    for i, moments in contents["optimizer"]["state"].items():
        tensors |= {f"{i}.{name}": tensor for name, tensor in moments.items()}
    for name in ("train", "val"):
        tensors[name] = torch.tensor(contents["history"][name], dtype=torch.float64)
    return tensors


def assert_same_bits(one: Path, other: Path) -> None:
    """Weights, their EMA, the optimizer's moments and the curves are bit-equal."""
    expected, found = last_checkpoint(one), last_checkpoint(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def _call(
    environment: Mapping[str, str],
    function: Callable[[ProcessGroup], Any],
    timeout: float,
    results: Any,
    folder: Path,
) -> None:
    os.chdir(folder)
    os.environ.update({**environment, "GLOO_SOCKET_IFNAME": "lo"})
    options = TrainerOptions(ddp_timeout_seconds=timeout, device="cpu")
    with join_process_group(options) as group:
        try:
            text = str(function(group))
        except WavenetError as error:
            text = f"{type(error).__name__} {error.reported_elsewhere} {error}"
        results.put((group.rank, text))
