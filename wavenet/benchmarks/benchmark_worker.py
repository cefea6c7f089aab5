"""The process that trains one way while `wavenet-benchmark train` measures: see `speed`."""

import json
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wavenet.benchmarks.training_baseline import Textbook
from wavenet.benchmarks.training_speed import Case
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet
from wavenet.training.acceleration import hasten, keep_freed_memory
from wavenet.training.module import compiled_nll
from wavenet.training.options import TrainerOptions
from wavenet.utils.dataclass_io import from_dict

MATRIX = {"cpu": 2048, "cuda": 8192}  # rows and columns


def _serve(said: str) -> None:
    """Answer each line of stdin, a number of seconds, with what was measured in them."""
    plain_case, plain_config = json.loads(said)
    case = from_dict(Case, plain_case)
    if plain_config is None:
        for line in sys.stdin:
            _tell(_peaks(case.device, float(line)))
        return
    update = _update(case, from_dict(WaveNetConfig, plain_config))
    before = _memory(case.device)
    for line in sys.stdin:
        rate = _rate(update, case, float(line))
        memory = max(0.0, _memory(case.device, peak=True) - before)
        _tell({"rate": rate, "memory_mib": memory})


def _update(case: Case, config: WaveNetConfig) -> Callable[[], None]:
    """Return what does one update of the weights."""
    torch.manual_seed(0)
    model: WaveNet | Textbook
    if case.way.startswith("baseline"):
        model = Textbook(config)
    else:
        keep_freed_memory()
        model = WaveNet(config)
        hasten(model, TrainerOptions(activation_checkpointing=case.way == "fused_checkpointed"))
    nn.Module.to(model, case.device)
    nll: Callable[[Tensor], Tensor] = model.nll
    if case.way.endswith("compiled"):
        nll = compiled_nll(model) if isinstance(model, WaveNet) else torch.compile(nll)
    fused = case.way.startswith("fused")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused or None)
    waveform = torch.rand(case.batch_size, case.crop, device=case.device) * 2 - 1

    def update() -> None:
        halves = case.precision == "bf16-mixed"
        with torch.autocast(case.device, torch.bfloat16, enabled=halves):
            loss = nll(waveform).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return update


def _rate(update: Callable[[], None], case: Case, seconds: float) -> float:
    """Return samples a second over as many updates as take so long."""
    _wait(case.device)
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        update()
        _wait(case.device)
        count += 1
    return count * case.batch_size * case.crop / (time.perf_counter() - started)


def _peaks(device: str, seconds: float) -> dict[str, float]:
    """Return operations a second of large matrix products, by precision."""
    size = MATRIX[device]
    found = {}
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
        a @ b
        _wait(device)
        count, started = 0, time.perf_counter()
        while not count or time.perf_counter() - started < seconds / 4:
            a @ b
            _wait(device)
            count += 1
        found[precision] = count * 2 * size**3 / (time.perf_counter() - started)
    return found


def _memory(device: str, peak: bool = False) -> float:
    """Return this process's memory in MiB, on the device that it computes on."""
    if device == "cuda":
        now = torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated
        return now() / 2**20
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 2**20
    except OSError:
        return _memory(device, peak=True)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _tell(found: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
