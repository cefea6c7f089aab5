"""How tests start the processes of a team, as torchrun or Slurm would, and at what cost.

A server that has imported everything already forks them; so a process costs little.
"""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.commands import Done
from wavenet.training.distributed.process_group import ProcessGroup, assembled
from wavenet.training.options import TrainerOptions
from wavenet.utils.errors import WavenetError

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.teams", "recipes.train", "wavenet.training.run"])
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
    """Return what torchrun tells a process, all of them being on one host."""
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
    """Return what Slurm tells a process, all of them being on one host."""
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


def act_together(
    size: int, act: Callable[[ProcessGroup], Any], timeout: float, folder: Path
) -> list[str]:
    """Call `act` with the team in each of so many processes; return what each says, in order."""
    port, said = free_port(), SERVER.Queue()
    environments = [torchrun_environment(rank, size, port, "7") for rank in range(size)]
    processes = [
        SERVER.Process(target=_act, args=(environment, act, timeout, said, folder))
        for environment in environments
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    assert all(process.exitcode == 0 for process in processes), "one hangs or fails"
    return [text for _, text in sorted(said.get(timeout=5) for _ in processes)]


class Member:
    """A process of a team that runs `wavenet-train` in a folder.

    Args:
        folder: Its current folder.
        environment: What its launcher tells it.
        arguments: Of the command.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], arguments: tuple[str, ...]
    ) -> None:
        number = next(iter(environment.values()))
        self.words = [folder / f"{kind}-{number}.txt" for kind in ("out", "err")]
        environment = {**environment, "GLOO_SOCKET_IFNAME": "lo"}
        started = (folder, environment, arguments, self.words)
        self.process = SERVER.Process(target=_train, args=started)
        self.process.start()

    def done(self, seconds: float = 400.0) -> Done:
        """Wait for its end, and return what it left; one that does not end is killed."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"hangs: {self.words[1].read_text()}")
        out, err = (path.read_text() for path in self.words)
        return Done(self.process.exitcode, out, err)


def train_together(
    folder: Path,
    size: int,
    *arguments: str,
    name: str = "7",
    environment: Any = torchrun_environment,
) -> list[Done]:
    """Run `wavenet-train` in so many processes, and return what each left."""
    port = free_port()
    members = [
        Member(folder, environment(rank, size, port, name), arguments) for rank in range(size)
    ]
    return [member.done() for member in members]


def last_save(run: Path) -> dict[str, Any]:
    """Return the tensors of a run's last save, and its curves."""
    path = sorted((run / "checkpoints").glob("step-*.ckpt"))[-1]
    save = torch.load(path, weights_only=True)  # noqa: TID251
    states = save["optimizer_states"][0]["state"]
    moments = {f"{i}.{name}": value for i, s in states.items() for name, value in s.items()}
    history = save["callbacks"]["History"]
    curves = {name: torch.tensor(history[name], dtype=torch.float64) for name in ("train", "valid")}
    return {**save["state_dict"], **moments, **curves}


def assert_same_bits(one: Path, other: Path) -> None:
    """Weights, their average, the optimiser's moments and the curves are equal."""
    expected, found = last_save(one), last_save(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def _act(
    environment: Mapping[str, str],
    act: Callable[[ProcessGroup], Any],
    timeout: float,
    said: Any,
    folder: Path,
) -> None:
    os.chdir(folder)
    os.environ.update({**environment, "GLOO_SOCKET_IFNAME": "lo"})
    with assembled(TrainerOptions(ddp_timeout_seconds=timeout, device="cpu")) as team:
        try:
            text = str(act(team))
        except WavenetError as error:
            text = f"{type(error).__name__} {error.reported_elsewhere} {error}"
        said.put((team.rank, text))


def _train(
    folder: Path, environment: Mapping[str, str], arguments: tuple[str, ...], words: list[Path]
) -> None:
    """What a process does: the command, its words going to files."""
    from wavenet.cli.main import train

    os.chdir(folder)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = ["wavenet-train", *arguments]
    out, err = words
    with out.open("w", encoding="utf-8") as sys.stdout, err.open("w", encoding="utf-8") as file:
        sys.stderr = file
        train()
