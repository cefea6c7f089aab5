"""Disk faults: at every system call of a write, a power cut, a disk that is too small."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.processes import Child, Forks, traced
from tests.faults.runs import Reference, acknowledged, broken, newest, start_or_resume, temporary
from tests.faults.tally import Tally
from tests.waiting import wait_until
from wavenet import checkpoint
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.training.checkpointing import read_checkpoint
from wavenet.utils.errors import MachineError
from wavenet.utils.files import check_writable, remove_leftovers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="strace and mounts are Linux's"),
]
CALLS = ("openat", "write", "fsync", "rename", "unlink", "unlinkat", "mkdir", "rmdir", "close")
WRITING = ("write", "fsync", "rename")


@pytest.fixture(scope="module")
def strace(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where strace is not there or may not trace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True)
    if tried.returncode:
        pytest.skip("strace may not trace here")


def points(forks: Forks, work: str, folder: Path) -> list[tuple[str, int]]:
    """Return each system call of a write: its name, and its number among those of that name."""
    child = forks.start(work, folder, stop=True)
    with traced(child, "-e", f"trace={','.join(CALLS)},symlink") as trace:
        assert child.wait() == 0, child.output()
    counts: Counter[str] = Counter()
    found = []
    for line in trace.read_text().splitlines():
        match = re.match(r"(?:\d+ +)?(\w+)\(", line)
        if match is None:
            continue  # a line about a signal
        if match[1] == "symlink":
            break  # acknowledged: the process ends
        counts[match[1]] += 1
        found.append((match[1], counts[match[1]]))
    return found


def inject_fault(forks: Forks, work: str, folder: Path, point: tuple[str, int], how: str) -> Child:
    """Inject a fault at one system call of a write."""
    folder.mkdir()
    child = forks.start(work, folder, stop=True)
    name, number = point
    with traced(child, "-e", f"trace={name}", "-e", f"inject={name}:{how}:when={number}"):
        child.wait()
    return child


def check(work: str, folder: Path) -> tuple[int, int]:
    """Return how many files are not reference, and how many acknowledged ones are lost."""
    corrupt = lost = 0
    acknowledged_write = (folder / "acknowledged").is_symlink()
    if work == "save":
        for path in (folder / "checkpoints").glob("step-*.ckpt"):
            corrupt += read_checkpoint(path)["step"] != int(path.stem[5:])
        lost += not (folder / "checkpoints" / "step-00000001.ckpt").exists()
        lost += acknowledged_write and not (folder / "checkpoints" / "step-00000002.ckpt").exists()
    else:
        remove_leftovers(folder, "model")
        steps = checkpoint.load(folder / "model").training.steps
        lost += acknowledged_write and steps != 2
        corrupt += steps not in (1, 2)
    return corrupt, lost


@pytest.mark.parametrize("work", ["save", "export"])
def test_a_kill_at_any_system_call_of_a_write_breaks_nothing(
    forks: Forks,
    strace: None,
    tmp_path: Path,
    work: str,
    full: bool,
    tally: Tally,
    chance: random.Random,
) -> None:
    (tmp_path / "plain").mkdir()
    everything = [
        (point, how)
        for point in points(forks, work, tmp_path / "plain")
        for how in ("error=EIO:signal=KILL", "signal=KILL")  # before the call, after it
    ]
    chosen = everything if full else chance.sample(everything, 4)
    corrupt = lost = 0
    for number, (point, how) in enumerate(chosen):
        folder = tmp_path / str(number)
        child = inject_fault(forks, work, folder, point, how)
        assert child.code == -signal.SIGKILL, (point, how, child.output())
        found = check(work, folder)
        corrupt, lost = corrupt + found[0], lost + found[1]
    tally.add("kills", len(chosen))
    tally.add("of points", len(everything))
    tally.add("corrupt files", corrupt)
    tally.add("lost acknowledged checkpoints", lost)
    assert (corrupt, lost) == (0, 0)


@pytest.mark.parametrize("work", ["save", "export"])
def test_a_disk_error_at_any_system_call_is_reported_and_breaks_nothing(
    forks: Forks,
    strace: None,
    tmp_path: Path,
    work: str,
    full: bool,
    tally: Tally,
    chance: random.Random,
) -> None:
    (tmp_path / "plain").mkdir()
    everything = [
        (point, f"error={code}")
        for point in points(forks, work, tmp_path / "plain")
        if point[0] in WRITING
        for code in ("ENOSPC", "EIO", "EDQUOT")
    ]
    chosen = everything if full else chance.sample(everything, 4)
    corrupt = lost = stayed = 0
    for number, (point, how) in enumerate(chosen):
        folder = tmp_path / str(number)
        child = inject_fault(forks, work, folder, point, how)
        assert child.code == 5, (point, how, child.output())
        assert child.output().startswith("MachineError: cannot write "), child.output()
        stayed += len(temporary(folder))
        found = check(work, folder)
        corrupt, lost = corrupt + found[0], lost + found[1]
    tally.add("errors", len(chosen))
    tally.add("of", len(everything))
    tally.add("corrupt files", corrupt)
    tally.add("lost checkpoints", lost)
    tally.add("temporary files that stayed", stayed)
    assert (corrupt, lost, stayed) == (0, 0, 0)


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    """Mount something at `folder`, or skip the test where that is not allowed."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *how, str(folder)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def cut_power(
    forks: Forks, reference: Reference, folder: Path, images: int, chance: random.Random
) -> tuple[int, int]:
    """Train on a disk of its own, and look at images of it taken at random moments.

    Returns:
        How many files are corrupt, and how many acknowledged checkpoints are lost.
    """
    disk = folder / "disk.img"
    corrupt = lost = 0
    with open(disk, "wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    endless = ("trainer.save_every_n_steps=1", "trainer.max_steps=1000000", "trainer.num_workers=0")
    with mounted(folder / "disk", "-o", "loop", str(disk)) as place:
        child = start_or_resume(forks, reference, place / "run", *endless)
        wait_until(
            lambda: child.state() == "Z" or acknowledged(child.output()) > 0,
            "training acknowledged no checkpoint",
        )
        for number in range(images):
            # A file of its own: a loop device that is not gone yet would show the image before.
            copy = folder / f"copy-{number}.img"
            time.sleep(chance.uniform(0, 0.2))
            child.signal(signal.SIGSTOP)
            wait_until(lambda: child.state() in "TZ", "training did not stop")
            assert child.state() == "T", child.output()
            last_acknowledged = acknowledged(child.output())
            shutil.copyfile(disk, copy)
            child.signal(signal.SIGCONT)
            with mounted(folder / "copy", "-o", "loop", str(copy)) as image:
                lost += newest(image / "run") < last_acknowledged
                corrupt += len(broken(image / "run"))
            copy.unlink()
        child.signal(signal.SIGKILL)
        child.wait()
    return corrupt, lost


def test_a_power_cut_loses_no_acknowledged_checkpoint(
    forks: Forks,
    reference: Reference,
    tmp_path: Path,
    full: bool,
    tally: Tally,
    chance: random.Random,
) -> None:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    runs, images = (20, 50) if full else (1, 5)
    for number in range(runs):
        (tmp_path / f"{number}").mkdir()
        corrupt, lost = cut_power(forks, reference, tmp_path / f"{number}", images, chance)
        tally.add("power cuts", images)
        tally.add("corrupt files", corrupt)
        tally.add("lost acknowledged checkpoints", lost)
        tally.show()
    assert tally.counts["corrupt files"] == tally.counts["lost acknowledged checkpoints"] == 0


def test_a_run_on_a_disk_of_any_size_finishes_or_ends_with_exit_5(
    forks: Forks, reference: Reference, tmp_path: Path, full: bool, tally: Tally
) -> None:
    need = sum(path.stat().st_size for path in reference.run.rglob("*") if path.is_file())
    shares = [3 * i / 19 for i in range(20)] if full else [0.8, 3.0]
    ended: Counter[int] = Counter()
    corrupt = lost = stayed = 0
    for number, share in enumerate(shares):
        size = max(4096, round(need * share))  # of 0 bytes tmpfs makes no limit
        place = tmp_path / f"disk-{number}"
        with mounted(place, "-t", "tmpfs", "-o", f"size={size}", "none"):
            child = start_or_resume(
                forks, reference, place / "run", "evaluation.sample_seconds=0.05"
            )
            code = child.wait()
            ended[code] += 1
            assert code in (0, 5), child.output()
            assert code == 0 or re.search("No space left|disk", child.output()), child.output()
            assert "Traceback" not in child.output()
            lost += newest(place / "run") < acknowledged(child.output())
            stayed += len(temporary(place))
            away = tmp_path / f"away-{number}"
            shutil.copytree(place, away)
        corrupt += len(broken(away / "run"))
    tally.add("disks", len(shares))
    tally.add("runs that finished", ended[0])
    tally.add("runs that ended with exit 5", ended[5])
    tally.add("corrupt files", corrupt)
    tally.add("lost acknowledged checkpoints", lost)
    tally.add("temporary files that stayed", stayed)
    assert (corrupt, lost, stayed) == (0, 0, 0)
    assert ended[0]
    assert ended[5]


@pytest.mark.parametrize(("pages", "stays"), [(3, False), (16, True)])
def test_a_preparation_on_a_full_disk_leaves_finished_recordings_only_and_says_so(
    tmp_path: Path,
    recordings: Path,
    caplog: pytest.LogCaptureFixture,
    pages: int,
    stays: bool,
) -> None:
    options = PrepareOptions(sample_rate=8000, num_workers=1)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={4096 * pages}", "none") as disk:
        plan = make_plan(recordings, disk / "out", options)
        with caplog.at_level("INFO", "wavenet"), pytest.raises(MachineError, match="No space left"):
            prepare_clips(plan)

        assert [path.name for path in disk.iterdir()] == [".out.partial"] * stays
    assert ("the same command continues there, or remove" in caplog.text) is stays


def test_a_read_only_disk_is_reported_before_work_without_advice_to_free_space(
    forks: Forks, reference: Reference, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "none") as disk:
        with pytest.raises(MachineError, match="Read-only") as caught:
            check_writable(disk / "new" / "a.wav")
        child = start_or_resume(forks, reference, disk / "run")

        assert child.wait() == 5
        assert f"cannot write {disk / 'run'}: Read-only file system; use run_dir=" in child.output()
    assert "space" not in str(caught.value)
