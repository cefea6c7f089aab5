"""Read damaged and hostile files of every kind: each is read or refused in bounded time and memory.

    python -m tests.faults.fuzz READER [--count 200000] [--seed 0]
    python -m tests.faults.fuzz all

Files are made from good ones: bytes change, in JSON values too, with checksums made to match where
a reader would stop at them. A finding is an error that is no `WavenetError`, a dead or slow
process, code from a file that was run, memory past the limit, or damage that is accepted in
silence. Files are read by child processes in chunks; a child that dies names its file.
"""

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Protocol

import torch

from tests.faults.fuzz_readers import READERS

MEMORY_BYTES = 1536 << 20
SECONDS = 5.0  # of CPU time, for one file
CHUNK = 20_000  # files of one child process
WARM_UP = 50  # files, so that modules that are imported when first used do not count
FORBIDDEN_EVENTS = (
    *("exec", "import", "os.exec", "os.fork", "os.posix_spawn", "os.system", "pickle.", "socket."),
    "subprocess.",
)


class Fuzzer(Protocol):
    """Makes files from seeds and reads them."""

    def try_one(self, seed: int) -> str:
        """Return what became of file `seed`: "read" or "refused"; any exception is a finding."""


def run_child(name: str, start: int, count: int, mark: Path) -> None:
    """Try files in this process; `mark` holds the seed of the one that is being tried."""
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    events: Counter[str] = Counter()
    slowest, slowest_seed, watching = 0.0, start, False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if not watching:
            return
        if event == "import" and str(arguments[0]).partition(".")[0] in known:
            return  # of the standard library, and of what was imported before, when first used
        if event.startswith(FORBIDDEN_EVENTS) and not (event == "exec" and is_importing()):
            events[f"{event} {arguments[:1]}"] += 1

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, mark.open("wb", 0) as current:
        fuzzer: Fuzzer = READERS[name](Path(folder))
        for seed in range(-WARM_UP, 0):
            with contextlib.suppress(Exception):
                fuzzer.try_one(seed)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        known = {name.partition(".")[0] for name in (*sys.modules, *sys.stdlib_module_names)}
        sys.addaudithook(watch)
        for seed in range(start, start + count):
            os.pwrite(current.fileno(), b"%20d" % seed, 0)
            seconds = int(time.process_time() + SECONDS) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
            began, watching = time.process_time(), True
            try:
                outcomes[fuzzer.try_one(seed)] += 1
            except Exception:  # noqa: BLE001 every other error is a finding
                watching = False
                outcomes["findings"] += 1
                print(f"{name} {seed}: {traceback.format_exc()}")
            watching = False
            seconds_taken = time.process_time() - began
            if seconds_taken > slowest:
                slowest, slowest_seed = seconds_taken, seed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{name} {start}+{count}: {dict(outcomes)}, run {dict(events)}, peak {peak} MiB, slowest "
        f"{slowest:.2f} s ({slowest_seed})",
        flush=True,
    )
    os._exit(1 if events or outcomes["findings"] else 0)


def is_importing() -> bool:
    """Return whether Python executes a module for an import statement."""
    frame = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def fuzz(name: str, start: int, count: int) -> int:
    """Try files in child processes; return the number of those with findings."""
    failed, stop = 0, start + count
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "seed"
        while start < stop:
            size = min(CHUNK, stop - start)
            command = [sys.executable, "-m", "tests.faults.fuzz", name, "--child", str(mark)]
            done = subprocess.run([*command, f"--seed={start}", f"--count={size}"], check=False)
            failed += done.returncode != 0
            start += size
            if done.returncode < 0:  # died: of the CPU limit if it hung
                last = int(mark.read_bytes())
                print(f"{name} {last}: the process died of signal {-done.returncode}", flush=True)
                start = last + 1
    return failed


def main() -> None:
    """Try `--count` files of a reader, or of each; exit with 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("reader", choices=[*READERS, "all"])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help="try all in this process; file for the seed")
    options = parser.parse_args()
    if options.child is not None:
        run_child(options.reader, options.seed, options.count, options.child)
    failed = 0
    for name in READERS if options.reader == "all" else [options.reader]:
        found = fuzz(name, options.seed, options.count)
        print(f"{name}: {options.count} files, {found} child processes with findings", flush=True)
        failed += found
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
