"""The process that measures one training case: a number of seconds in, a line of JSON out."""

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wavenet.benchmarks.framework import process_memory_mib
from wavenet.benchmarks.training_baseline import BaselineWaveNet
from wavenet.benchmarks.training_speed import TrainingCase
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet
from wavenet.training.acceleration import accelerate, compile_nll, keep_freed_memory
from wavenet.training.options import TrainerOptions
from wavenet.utils.dataclass_io import from_dict

MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}  # rows and columns


def main(argument: str) -> None:
    """Answer each line of stdin, a number of seconds, with what was measured in that time."""
    plain_case, plain_config = json.loads(argument)
    case = from_dict(TrainingCase, plain_case)
    if plain_config is None:
        for line in sys.stdin:
            _answer(_matrix_operations_per_second(case.device, float(line)))
        return
    update = _make_update(case, from_dict(WaveNetConfig, plain_config))
    before = _memory_mib(case.device)
    for line in sys.stdin:
        rate = _samples_per_second(update, case, float(line))
        memory = max(0.0, _memory_mib(case.device, peak=True) - before)
        _answer({"rate": rate, "memory_mib": memory})


def _make_update(case: TrainingCase, config: WaveNetConfig) -> Callable[[], None]:
    """Return a function that does one update of the weights."""
    torch.manual_seed(0)
    model: WaveNet | BaselineWaveNet
    if case.implementation.startswith("baseline"):
        model = BaselineWaveNet(config)
    else:
        keep_freed_memory()
        model = WaveNet(config)
        checkpointed = case.implementation == "fused_checkpointed"
        accelerate(model, TrainerOptions(activation_checkpointing=checkpointed))
    nn.Module.to(model, case.device)
    nll: Callable[[Tensor], Tensor] = model.nll
    if case.implementation.endswith("compiled"):
        nll = compile_nll(model) if isinstance(model, WaveNet) else torch.compile(nll)
    fused = case.implementation.startswith("fused")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused or None)
    waveform = torch.rand(case.batch_size, case.segment_length, device=case.device) * 2 - 1

    def update() -> None:
        autocast = case.precision == "bf16-mixed"
        with torch.autocast(case.device, torch.bfloat16, enabled=autocast):
            loss = nll(waveform).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return update


def _samples_per_second(update: Callable[[], None], case: TrainingCase, seconds: float) -> float:
    updates = _calls_per_second(update, case.device, seconds)
    return updates * case.batch_size * case.segment_length


def _matrix_operations_per_second(device: str, seconds: float) -> dict[str, float]:
    """Return the floating-point operations per second of large matrix products, by precision."""
    size = MATRIX_SIZE[device]
    found = {}
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
        a @ b
        calls = _calls_per_second(lambda a=a, b=b: a @ b, device, seconds / 4)  # type: ignore[misc]
        found[precision] = calls * 2 * size**3
    return found


def _calls_per_second(function: Callable[[], object], device: str, seconds: float) -> float:
    """Call a function for so long, at least once."""
    _synchronize(device)
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        function()
        _synchronize(device)
        count += 1
    return count / (time.perf_counter() - started)


def _memory_mib(device: str, *, peak: bool = False) -> float:
    """Return the memory of this process on the device that it computes on."""
    if device != "cuda":
        return process_memory_mib(peak=peak)
    return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _answer(found: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
