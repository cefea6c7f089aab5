"""torchrun starts the command, and restarts it when a process dies, stops or is cut off.

Each interrupted run must end with the bits of a run that was not interrupted.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import ROOT, environment
from tests.process_groups import TRAIN, assert_same_bits, free_port, train_in_group
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
FULL = "WAVENET_FULL" in os.environ
LAST = 10_000 if FULL else 80
SAVE_INTERVAL = 100 if FULL else 10
STEPS = (
    *("model.dropout=0.1", "trainer.global_batch_size=4", f"trainer.max_steps={LAST}"),
    *(f"trainer.save_every_n_steps={SAVE_INTERVAL}", "trainer.save_last_k=1000"),
    f"trainer.val_every_n_steps={100 if FULL else 40}",
    # A mixture: nothing is compiled in each of the processes that torchrun starts
    *("model.output_distribution=gaussian_mixture", "model.input_type=scalar"),
    "model.quantization_channels=65536",
)
full = pytest.mark.skipif(not FULL, reason="takes minutes: pytest --full runs it")


@pytest.fixture(scope="module")
def uninterrupted(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing interrupts."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = train_in_group(folder, 2, *TRAIN, *STEPS, f"data.root={recordings}", "run_dir=run")
    assert [one.returncode for one in done] == [0, 0], done
    return folder / "run"


@contextmanager
def torchrun(
    folder: Path,
    recordings: Path,
    *arguments: str,
    options: tuple[str, ...] = ("--standalone", "--nproc-per-node=2", "--max-restarts=20"),
    before: tuple[str, ...] = (),
    interface: str = "lo",
) -> Iterator["subprocess.Popen[str]"]:
    """Yield torchrun while it trains in `folder`, its output in `torchrun.txt`; then end it."""
    command = [*before, sys.executable, "-m", "torch.distributed.run", *options]
    command += [str(ROOT / "recipes" / "train.py"), *TRAIN, *STEPS, f"data.root={recordings}"]
    with (folder / "torchrun.txt").open("a") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env={**environment(), "GLOO_SOCKET_IFNAME": interface},
            stdout=output,
            stderr=output,
            text=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def output_of(folder: Path) -> str:
    return (folder / "torchrun.txt").read_text()


def workers(agent: int) -> list[int]:
    """Return the live processes that torchrun started, by rank."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return [int(number) for number in children]


def num_checkpoints(folder: Path) -> int:
    return len(list(folder.glob("runs/folder/checkpoints/*.ckpt")))


def wait_for_checkpoint(process: "subprocess.Popen[str]", folder: Path) -> None:
    wait_until(
        lambda: num_checkpoints(folder) > 0 or process.poll() is not None,
        "torchrun wrote no checkpoint",
    )


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=full)])
def test_after_a_kill_torchrun_resumes_from_the_last_checkpoint(
    uninterrupted: Path, recordings: Path, tmp_path: Path, kills: int
) -> None:
    draw, killed = random.Random(0), 0
    with torchrun(tmp_path, recordings) as process:
        wait_for_checkpoint(process, tmp_path)
        while killed < kills and process.poll() is None:
            time.sleep(draw.uniform(0, 20) if kills > 1 else 0)
            alive = workers(process.pid)
            if alive and num_checkpoints(tmp_path) < LAST // SAVE_INTERVAL:
                os.kill(draw.choice(alive), signal.SIGKILL)
                killed += 1
        code = process.wait(1800)

    assert code == 0, output_of(tmp_path)
    assert killed == kills
    assert "resuming runs/folder from step" in output_of(tmp_path)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["folder"]
    assert_same_bits(uninterrupted, tmp_path / "runs" / "folder")


@full
@pytest.mark.parametrize("which", [0, 1])
def test_stopped_process_is_detected_within_the_timeout(
    uninterrupted: Path, recordings: Path, tmp_path: Path, which: int
) -> None:
    with torchrun(tmp_path, recordings, "trainer.ddp_timeout_seconds=10") as process:
        wait_for_checkpoint(process, tmp_path)
        os.kill(workers(process.pid)[which], signal.SIGSTOP)
        code = process.wait(1800)

    assert code == 0, output_of(tmp_path)
    assert_same_bits(uninterrupted, tmp_path / "runs" / "folder")


@full
def test_a_terminated_torchrun_lets_its_processes_save(recordings: Path, tmp_path: Path) -> None:
    endless = ("trainer.save_every_n_steps=1000000", "trainer.max_steps=1000000")
    early = "trainer.val_every_n_steps=10"
    with torchrun(tmp_path, recordings, *endless, early) as process:
        wait_until(
            lambda: process.poll() is not None or "step 10: validation" in output_of(tmp_path),
            "torchrun logged no validation",
        )
        process.terminate()
        process.wait(60)

    assert "stopped and saved; resume with: wavenet-train resume=runs/folder" in output_of(tmp_path)
    assert num_checkpoints(tmp_path) <= 2  # the last, and that of the best validation


def net(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Yield the names of two network namespaces, joined by a cable named `cable` in each."""
    number = os.getpid()
    names = (f"wavenet-a-{number}", f"wavenet-b-{number}")
    try:
        for name in names:
            net("netns", "add", name)
        for name in names:
            net("-n", name, "link", "set", "lo", "up")
        ends = ("cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns")
        net("link", "add", *ends, names[1])
        for index, name in enumerate(names, 1):
            net("-n", name, "address", "add", f"10.213.7.{index}/24", "dev", "cable")
            net("-n", name, "link", "set", "cable", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def namespaces() -> bool:
    try:
        with two_hosts():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@full
@pytest.mark.skipif(FULL and not namespaces(), reason="needs root and network namespaces")
def test_two_hosts_resume_when_a_cut_network_is_back(
    uninterrupted: Path, recordings: Path, tmp_path: Path
) -> None:
    port = free_port()
    with two_hosts() as names:
        started = []
        stack = []
        for index, name in enumerate(names, 1):
            options = (
                *("--nnodes=2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-id=cut"),
                *("--rdzv-backend=c10d", f"--rdzv-endpoint=10.213.7.1:{port}"),
                f"--rdzv-conf=is_host={'true' if index == 1 else 'false'}",
                f"--local-addr=10.213.7.{index}",
            )
            host = torchrun(
                tmp_path,
                recordings,
                "trainer.ddp_timeout_seconds=10",
                options=options,
                before=("ip", "netns", "exec", name),
                interface="cable",
            )
            stack.append(host)
            started.append(host.__enter__())
        try:
            wait_for_checkpoint(started[0], tmp_path)
            net("-n", names[0], "link", "set", "cable", "down")
            cut_at = num_checkpoints(tmp_path)
            time.sleep(15)
            net("-n", names[0], "link", "set", "cable", "up")
            codes = [process.wait(1800) for process in started]
        finally:
            for host in stack:
                host.__exit__(None, None, None)

    assert codes == [0, 0], output_of(tmp_path)
    assert cut_at < LAST // SAVE_INTERVAL
    assert "resuming runs/folder from step" in output_of(tmp_path)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["folder"]
    assert_same_bits(uninterrupted, tmp_path / "runs" / "folder")
